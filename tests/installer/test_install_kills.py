"""Killed or interrupted anywhere, and run again; two runs at the same time."""

from __future__ import annotations

import json
import os
import signal
import time
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    import subprocess

    from tests.installer.conftest import MakeSite, Site


LIMIT = 30.0  # seconds until a stopped process is seen to have stopped
JOURNAL = "journal.jsonl', None"  # os.open of the journal to append; reading it looks different
STEPS = ("home", "program", "launch", "config", "secret", "runtime", "cluster", "start")
#: A moment in the middle of each step, as audit event, text of its arguments, and count.
WITHIN: dict[str, tuple[str, str, int]] = {
    "home, receipt not yet in place": ("os.rename", "receipt.json", 1),
    "home, directories half made": ("os.mkdir", "/run'", 1),
    "program, half the files": ("open", "psycopg/__init__.py", 1),
    "program, not yet in place": ("os.rename", "/gateway-", 1),
    "program, not yet switched to": ("os.rename", "/current'", 1),
    "program, no command yet": ("os.symlink", "../runtime", 1),
    "config, not yet in place": ("os.rename", "config.toml", 1),
    "secret, not yet in place": ("os.rename", "auth-secret", 1),
    "launch, before the process": ("subprocess.Popen", "supervise", 1),
    "runtime, half the files": ("open", "pginstall/bin/postgres", 1),
    "runtime, not yet in place": ("os.rename", "postgresql-", 1),
    "cluster, before initdb": ("subprocess.Popen", "initdb", 1),
    "cluster, not yet in place": ("os.rename", "postgres-1", 1),
    "start, while the gateway works on its schema": ("import", "mosaic_gateway.gateway.local_client", 1),
    "smoke test": ("socket.connect", "127.0.0.1", 1),
    "receipt of the end": ("os.rename", "receipt.json", 2),
    "journal not yet gone": ("os.remove", "journal.jsonl", 1),
}
#: The others are for the whole life cycle.
HEART = {
    "home, receipt not yet in place",
    "program, not yet in place",
    "runtime, half the files",
    "cluster, not yet in place",
    "start, while the gateway works on its schema",
    "journal not yet gone",
}


def _trap(act: str, event: str, text: str, count: int = 1) -> dict[str, Any]:
    return {"event": event, "text": text, "count": count, "act": act}


def _killed(site: Site, trap: dict[str, Any], *more: str) -> None:
    done = site.install(*more, trap=trap)
    assert done.code == -signal.SIGKILL, (done.code, done.out, done.err)


def _assert_whole(site: Site) -> None:
    """Install once more, which must converge: everything there, nothing left over."""
    identity = site.receipt()["instance_id"] if site.home.receipt.exists() else None
    done = site.install()
    assert done.result["smoke_test"] is not None
    assert identity in {None, done.result["instance_id"]}
    assert site.receipt()["state"] == "installed"
    assert not site.home.journal.exists()
    assert not list(site.path.rglob("*.tmp"))
    servers = [process for process in site.processes() if process.name() == "postgres"]
    postmasters = [process for process in servers if "-D" in process.cmdline()]
    assert len(postmasters) == 1
    assert site.install().steps == []
    assert site.json("doctor").code == 0


@pytest.mark.slow
@pytest.mark.parametrize("counts", [(2,), (1, 2)], ids=["after", "around"])
def test_killed_at_every_step_in_turn_it_comes_to_its_end(site: Site, counts: tuple[int, ...]) -> None:
    """One installation, killed after (and before) each of its steps, goes on where it was each time."""
    identities = set()
    for step in STEPS:
        # Each run loads the gateway anew, so that from there on two lines of the journal come before a step's own.
        before = 2 if step in {"config", "secret", "runtime", "cluster", "start"} else 0
        for count in counts:  # this step's first line is its begin, the second its done
            _killed(site, _trap("SIGKILL", "open", JOURNAL, before + count))
            if site.home.receipt.exists():
                identities.add(site.receipt()["instance_id"])
                last = json.loads(site.home.journal.read_bytes().splitlines()[-1])
                assert (last["step"] == step) is (count == 2)
            if (step, count) != ("start", 2):
                site.assert_nothing_runs()  # what was loaded ends with its installer
    assert len(identities) == 1
    _assert_whole(site)
    assert site.receipt()["instance_id"] in identities


@pytest.mark.slow
@pytest.mark.parametrize(
    "within", [name if name in HEART else pytest.param(name, marks=pytest.mark.lifecycle) for name in WITHIN]
)
def test_killed_within_a_step_it_comes_to_its_end(site: Site, within: str) -> None:
    """A fresh installation killed in the middle of a step is completed by the next."""
    _killed(site, _trap("SIGKILL", *WITHIN[within]))
    _assert_whole(site)


@pytest.mark.slow
@pytest.mark.parametrize(
    "moment",
    [("import", "mosaic_gateway.migrations.runner", 1), ("os.rename", "receipt.json", 2)],
    ids=["nothing applied", "applied, not noted"],
)
def test_killed_within_the_schema_step_it_comes_to_its_end(site: Site, moment: tuple[str, str, int]) -> None:
    """Without a gateway the installer itself runs the database: it ends with it, and the next run goes on."""
    _killed(site, _trap("SIGKILL", *moment), "--no-start")
    site.assert_nothing_runs()
    assert site.install("--no-start").steps[-1:] == ["schema"]
    _assert_whole(site)


@pytest.mark.slow
def test_killed_while_initdb_runs_it_comes_to_its_end(site: Site) -> None:
    """initdb ends with its installer, and its half a cluster is cleared away."""
    installer = site.popen(*site.install_words())
    deadline = time.monotonic() + LIMIT
    while not list(site.home.data.glob(".postgres-*/PG_VERSION")) and time.monotonic() < deadline:
        time.sleep(0.001)
    installer.kill()
    installer.wait()
    site.assert_nothing_runs()
    _assert_whole(site)


@pytest.mark.slow
def test_killed_when_the_gateway_had_started_it_is_taken_up(site: Site) -> None:
    """The gateway of a killed install runs on; the next install finds it and completes the rest."""
    _killed(site, _trap("SIGKILL", "os.rename", "receipt.json", 2))
    assert site.request("GET", "/api/bootstrap/status")[0] == 200
    _assert_whole(site)


@pytest.mark.parametrize(
    ("act", "trap"),
    [
        ("SIGINT", ("open", JOURNAL, 1)),
        ("SIGTERM", ("subprocess.Popen", "initdb", 1)),
        ("SIGHUP", ("socket.connect", "127.0.0.1", 1)),
        pytest.param("SIGTERM", ("os.mkdir", "/home'", 1), marks=pytest.mark.slow),
        pytest.param("SIGINT", ("os.rename", "auth-secret", 1), marks=pytest.mark.slow),
        pytest.param("SIGTERM", ("os.rename", "receipt.json", 2), marks=pytest.mark.slow),
    ],
)
def test_an_interrupted_install_is_undone(site: Site, act: str, trap: tuple[str, str, int]) -> None:
    """Ctrl-C and its relatives take back all that was made, home included."""
    done = site.install(trap=_trap(act, *trap))
    assert done.code == 130, (done.out, done.err)
    assert "interrupted" in done.error["message"]
    assert not list(site.path.parent.iterdir()), done.err
    site.assert_nothing_runs()


def _await_stopped(process: subprocess.Popen[str]) -> None:
    _, status = os.waitpid(process.pid, os.WUNTRACED)
    assert os.WIFSTOPPED(status)


@pytest.mark.parametrize(
    "where",
    [
        ("os.rename", "receipt.json", 1),
        pytest.param(("open", JOURNAL, 1), marks=pytest.mark.slow),
        pytest.param(("subprocess.Popen", "supervise", 1), marks=pytest.mark.slow),
        pytest.param(("subprocess.Popen", "initdb", 1), marks=pytest.mark.slow),
    ],
)
def test_of_two_installs_at_once_one_works(site: Site, where: tuple[str, str, int]) -> None:
    """However far the first one is, the second says who is at work; afterwards it finds nothing to do."""
    if where[1] == "initdb" and site.environ.get("MOSAIC_GATEWAY_ENGINE") == "pglite":
        pytest.skip("PGlite's data is made without initdb")
    winner = site.popen(*site.install_words(), trap=_trap("SIGSTOP", *where))
    _await_stopped(winner)
    loser = site.install()
    assert (loser.code, loser.error["code"]) == (6, "HOME_BUSY")
    assert f"process {winner.pid} (install)" in loser.error["message"]
    assert loser.error["details"] == {"pid": winner.pid, "verb": "install"}
    other = site.json("uninstall") if site.home.receipt.exists() else loser
    assert other.error["code"] == "HOME_BUSY"
    winner.send_signal(signal.SIGCONT)
    assert winner.wait(60) == 0
    assert site.install().result["changed"] is False


@pytest.mark.slow
def test_two_installs_started_together_never_both_change(site: Site) -> None:
    """Both end well or one is told to wait; there is one instance in the end."""
    both = [site.popen(*site.install_words()) for _ in range(2)]
    codes = sorted(process.wait(90) for process in both)
    assert codes in ([0, 0], [0, 6])
    assert site.install().steps == []


@pytest.mark.slow
def test_an_uninstall_that_was_killed_is_completed_by_the_next(make_site: MakeSite) -> None:
    """Killed between what it removes, and before the receipt's last word; data and secret are there all along."""
    site = make_site()
    site.installed("--no-start")
    identity, secret = site.receipt()["instance_id"], site.home.auth_secret.read_bytes()
    erased = ("shutil.rmtree", "erased") if site.account_name is None else ("os.remove", ".erased")
    for moment in (("os.rename", "receipt.json"), erased):
        done = site.run("uninstall", trap=_trap("SIGKILL", *moment))
        assert done.code == -signal.SIGKILL, done.err
        assert site.receipt()["instance_id"] == identity
    assert site.json("uninstall").result["instance_id"] == identity
    assert site.home.auth_secret.read_bytes() == secret
    assert site.installed("--no-start")["instance_id"] == identity


@pytest.mark.slow
@pytest.mark.parametrize(
    "moment", [("os.rename", "/data/"), ("shutil.rmtree", "postgres-18"), ("os.remove", "auth-secret")], ids=str
)
def test_a_purge_that_was_killed_is_completed_by_the_next(site: Site, moment: tuple[str, str]) -> None:
    """As long as the receipt is there, the same purge can be run again; nothing of the home is left then."""
    site.installed("--no-start")
    purge = f"--purge={site.receipt()['instance_id']}"
    assert site.run("uninstall", purge, trap=_trap("SIGKILL", *moment)).code == -signal.SIGKILL
    refused = site.install("--no-start")
    assert (refused.code, refused.error["code"]) == (7, "PURGE_INTERRUPTED")
    assert site.run("uninstall", purge, trap=_trap("SIGKILL", "os.remove", "receipt.json")).code == -signal.SIGKILL
    assert site.json("uninstall", purge).result["purged"] is True
    assert not list(site.path.parent.iterdir())


@pytest.mark.slow
def test_an_install_during_a_purge_is_told_to_wait(site: Site) -> None:
    """What looks like a lost secret is a purge at work, and that is what the error says."""
    site.installed("--no-start")
    purge = site.popen(
        "uninstall", f"--purge={site.receipt()['instance_id']}", trap=_trap("SIGSTOP", "os.remove", "config.toml")
    )
    _await_stopped(purge)
    done = site.install()
    assert (done.code, done.error["code"]) == (6, "HOME_BUSY")
    assert f"process {purge.pid} (uninstall)" in done.error["message"]
    purge.send_signal(signal.SIGCONT)
    assert purge.wait(60) == 0
    assert not list(site.path.parent.iterdir())
