"""Installs that are killed or interrupted and run again, and concurrent installs."""

from __future__ import annotations

import json
import os
import signal
import time
from typing import TYPE_CHECKING, Any

import pytest
from tests.support.engine_marks import on_both_engines
from tests.support.site import MakeSite, Site
from tests.support.traps.kill_points import trap_at

if TYPE_CHECKING:
    import subprocess


LIMIT = 30.0  # seconds
STEPS = ("home", "program", "launch", "config", "secret", "runtime", "cluster", "start")
#: A point in the middle of each step, as audit event, text in its arguments, and count.
WITHIN: dict[str, tuple[str, int]] = {
    "home, receipt not yet in place": ("receipt renamed", 1),
    "home, directories half created": ("run directory created", 1),
    "program, half the files": ("program file opened", 1),
    "program, not yet in place": ("program renamed", 1),
    "program, not yet switched to": ("program switched", 1),
    "program, no command yet": ("command linked", 1),
    "config, not yet in place": ("settings renamed", 1),
    "secret, not yet in place": ("secret renamed", 1),
    "launch, before the process": ("gateway launched", 1),
    "runtime, half the files": ("PostgreSQL's programs opened", 1),
    "runtime, not yet in place": ("PostgreSQL's programs renamed", 1),
    "cluster, before initdb": ("initdb started", 1),
    "cluster, not yet in place": ("cluster renamed", 1),
    "start, while the gateway works on its schema": ("client of the gateway imported", 1),
    "smoke test": ("gateway asked", 1),
    "receipt of the end": ("receipt renamed", 2),
    "journal not yet gone": ("journal removed", 1),
}
#: The other cases only run with the marker lifecycle.
MAIN_CASES = {
    "home, receipt not yet in place",
    "program, not yet in place",
    "runtime, half the files",
    "cluster, not yet in place",
    "start, while the gateway works on its schema",
    "journal not yet gone",
}


def _killed(site: Site, trap: dict[str, Any], *more: str) -> None:
    done = site.install(*more, trap=trap)
    assert done.code == -signal.SIGKILL, (done.code, done.out, done.err)


def _assert_complete(site: Site) -> None:
    """Install again, and check that the installation is complete and that no temporary files are left."""
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
def test_an_install_killed_at_every_step_in_turn_completes(site: Site, counts: tuple[int, ...]) -> None:
    """An install that is killed after (and before) each of its steps continues each time."""
    identities = set()
    for step in STEPS:
        # Each run starts the gateway's process again, which adds two lines to the journal before those of the step.
        before = 2 if step in {"config", "secret", "runtime", "cluster", "start"} else 0
        for count in counts:  # the step's first line is "begin", the second "done"
            _killed(site, trap_at("journal line", before + count))
            if site.home.receipt.exists():
                identities.add(site.receipt()["instance_id"])
                last = json.loads(site.home.journal.read_bytes().splitlines()[-1])
                assert (last["step"] == step) is (count == 2)
            if (step, count) != ("start", 2):
                site.assert_nothing_runs()  # the gateway's process exits with the installer
    assert len(identities) == 1
    _assert_complete(site)
    assert site.receipt()["instance_id"] in identities


@pytest.mark.slow
@pytest.mark.parametrize(
    "within", [name if name in MAIN_CASES else pytest.param(name, marks=pytest.mark.lifecycle) for name in WITHIN]
)
def test_an_install_killed_within_a_step_completes(site: Site, within: str) -> None:
    """An install killed in the middle of a step is completed by the next install."""
    _killed(site, trap_at(*WITHIN[within]))
    _assert_complete(site)


@pytest.mark.slow
@pytest.mark.parametrize(
    "moment",
    [("runner imported", 1), ("receipt renamed", 2)],
    ids=["nothing applied", "applied, not recorded"],
)
def test_an_install_killed_within_the_schema_step_completes(site: Site, moment: tuple[str, int]) -> None:
    """With --no-start the installer runs the database: it exits with the installer, and the next run continues."""
    _killed(site, trap_at(*moment), "--no-start")
    site.assert_nothing_runs()
    assert site.install("--no-start").steps[-1:] == ["schema"]
    _assert_complete(site)


@pytest.mark.slow
def test_an_install_killed_while_initdb_runs_completes(site: Site) -> None:
    """initdb exits with the installer, and the incomplete cluster is removed."""
    installer = site.popen(*site.install_words())
    deadline = time.monotonic() + LIMIT
    while not list(site.home.data.glob(".postgres-*/PG_VERSION")) and time.monotonic() < deadline:
        time.sleep(0.001)
    installer.kill()
    installer.wait()
    site.assert_nothing_runs()
    _assert_complete(site)


@pytest.mark.slow
def test_an_install_killed_after_the_gateway_started_completes(site: Site) -> None:
    """The gateway of a killed install continues to run; the next install detects it and completes the rest."""
    _killed(site, trap_at("receipt renamed", 2))
    assert site.request("GET", "/api/bootstrap/status")[0] == 200
    _assert_complete(site)


@pytest.mark.parametrize(
    ("act", "trap"),
    [
        ("SIGINT", ("journal line", 1)),
        ("SIGTERM", ("initdb started", 1)),
        ("SIGHUP", ("gateway asked", 1)),
        pytest.param("SIGTERM", ("home created", 1), marks=pytest.mark.slow),
        pytest.param("SIGINT", ("secret renamed", 1), marks=pytest.mark.slow),
        pytest.param("SIGTERM", ("receipt renamed", 2), marks=pytest.mark.slow),
    ],
)
def test_an_interrupted_install_is_undone(site: Site, act: str, trap: tuple[str, int]) -> None:
    """On SIGINT, SIGTERM and SIGHUP everything is undone, including the home."""
    done = site.install(trap=trap_at(*trap, act=act))
    assert done.code == 130, (done.out, done.err)
    assert "interrupted" in done.error["message"]
    assert not list(site.path.parent.iterdir()), done.err
    site.assert_nothing_runs()


def _await_stopped(process: subprocess.Popen[str]) -> None:
    _, status = os.waitpid(process.pid, os.WUNTRACED)
    assert os.WIFSTOPPED(status)


@on_both_engines
@pytest.mark.parametrize(
    "where",
    [
        ("receipt renamed", 1),
        pytest.param(("journal line", 1), marks=pytest.mark.slow),
        pytest.param(("gateway launched", 1), marks=pytest.mark.slow),
        pytest.param(("initdb started", 1), marks=pytest.mark.slow),
    ],
)
def test_a_second_concurrent_install_is_refused(site: Site, where: tuple[str, int]) -> None:
    """At any point of the first install, the second names its process; afterwards there is nothing to do."""
    if where[0] == "initdb started" and site.environ.get("MOSAIC_GATEWAY_ENGINE") == "pglite":
        pytest.skip("PGlite's data is created without initdb")
    winner = site.popen(*site.install_words(), trap=trap_at(*where, act="SIGSTOP"))
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


@on_both_engines
@pytest.mark.slow
def test_two_installs_started_together_result_in_one_installation(site: Site) -> None:
    """Both succeed, or one fails with HOME_BUSY; the installation is complete."""
    both = [site.popen(*site.install_words()) for _ in range(2)]
    codes = sorted(process.wait(90) for process in both)
    assert codes in ([0, 0], [0, 6])
    assert site.install().steps == []


@pytest.mark.slow
def test_an_uninstall_that_was_killed_is_completed_by_the_next(make_site: MakeSite) -> None:
    """Killed between two removals, and before the receipt is updated; data and secret are retained."""
    site = make_site()
    site.installed("--no-start")
    identity, secret = site.receipt()["instance_id"], site.home.auth_secret.read_bytes()
    erased = "part deleted" if site.account_name is None else "file of a part deleted"
    for moment in ("receipt renamed", erased):
        done = site.run("uninstall", trap=trap_at(moment))
        assert done.code == -signal.SIGKILL, done.err
        assert site.receipt()["instance_id"] == identity
    assert site.json("uninstall").result["instance_id"] == identity
    assert site.home.auth_secret.read_bytes() == secret
    assert site.installed("--no-start")["instance_id"] == identity


@pytest.mark.slow
@pytest.mark.parametrize(
    "moment", ["part of the data renamed", "cluster of PostgreSQL 18 removed", "secret removed"], ids=str
)
def test_a_purge_that_was_killed_is_completed_by_the_next(site: Site, moment: str) -> None:
    """As long as the receipt exists, the same purge can be run again; then nothing of the home is left."""
    site.installed("--no-start")
    purge = f"--purge={site.receipt()['instance_id']}"
    assert site.run("uninstall", purge, trap=trap_at(moment)).code == -signal.SIGKILL
    assert site.run("uninstall", purge, trap=trap_at("receipt removed")).code == -signal.SIGKILL
    assert site.json("uninstall", purge).result["purged"] is True
    assert not list(site.path.parent.iterdir())


@pytest.mark.slow
def test_an_install_over_a_purge_that_was_killed(make_site: MakeSite) -> None:
    """While data is in its place, it is refused; once all is set aside, a new installation begins without it."""
    early, late = make_site(), make_site()
    for site, moment in ((early, "part of the data renamed"), (late, "secret removed")):
        identity = site.installed("--no-start")["instance_id"]
        assert site.run("uninstall", f"--purge={identity}", trap=trap_at(moment)).code == -signal.SIGKILL
    refused = early.install("--no-start")
    assert (refused.code, refused.error["code"]) == (7, "PURGE_INTERRUPTED")
    assert late.installed("--no-start")["instance_id"] != identity


@pytest.mark.slow
def test_an_install_during_a_purge_is_refused(site: Site) -> None:
    """The error is HOME_BUSY and not the missing secret, which the running purge has removed."""
    site.installed("--no-start")
    purge = site.popen(
        "uninstall", f"--purge={site.receipt()['instance_id']}", trap=trap_at("settings removed", act="SIGSTOP")
    )
    _await_stopped(purge)
    done = site.install()
    assert (done.code, done.error["code"]) == (6, "HOME_BUSY")
    assert f"process {purge.pid} (uninstall)" in done.error["message"]
    purge.send_signal(signal.SIGCONT)
    assert purge.wait(60) == 0
    assert not list(site.path.parent.iterdir())
