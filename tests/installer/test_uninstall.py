"""Uninstall, adoption of the retained data, and purge."""

from __future__ import annotations

import os
import pty
import select
import shlex
import subprocess
import sys
import time

import pytest
from tests.support.engine_marks import on_both_engines
from tests.support.site import MakeSite, Site
from tests.support.traps.kill_points import trap_at

EMAIL, PASSWORD = "ada@example.org", "a password with ünïcode"
LIMIT = 30.0  # seconds


def _sign_in(site: Site) -> int:
    return site.request("POST", "/api/auth/sign-in/email", {"email": EMAIL, "password": PASSWORD})[0]


def test_uninstall_retains_the_data_and_a_later_install_adopts_it(site: Site) -> None:
    """Programs, processes and logs are removed; after an install instance, secret, settings and users are the same."""
    site.installed()
    created = site.json(
        "bootstrap", "setup", "--name", "Ada", "--email", EMAIL, "--password-stdin", stdin=f"{PASSWORD}\n"
    )
    assert created.code == 0, created.out
    identity, secret = site.receipt()["instance_id"], site.home.auth_secret.read_bytes()
    settings = site.home.config_file.read_bytes()

    planned = site.json("uninstall", "--dry-run").result
    assert planned["dry_run"] is True
    assert site.request("GET", "/api/bootstrap/status")[0] == 200
    done = site.json("uninstall").result
    assert done["removed"] == planned["removed"]
    outside = {path for path in done["removed"] if not path.startswith(f"{site.path}/")}
    assert {path.removeprefix(f"{site.path}/").split("/")[0] for path in {*done["removed"]} - outside} == {
        "run", "logs", *(("bin", "runtime") if site.account_name is None else ()),
    }  # fmt: skip
    assert bool(outside) is (site.account_name is not None)  # the programs
    assert done["steps"] == planned["steps"]
    steps = ["stop", "note", "set-aside", *(["remove-programs"] if outside else []), "erase"]
    assert [step["id"] for step in done["steps"]] == steps
    names = ["data/.ballast", "data/postgres-18", "secrets/auth-secret", "config.toml"]
    assert done["retained"] == planned["retained"] == [str(site.path / name) for name in names]
    site.assert_nothing_runs()
    assert {path.name for path in site.path.iterdir()} == {"data", "secrets", "config.toml", "receipt.json", ".lock"}
    assert (site.receipt()["state"], site.receipt()["kept"]) == ("kept", names)
    started = site.json("start")
    assert (started.code, started.error["code"]) == (3, "NOT_INSTALLED")
    assert started.error["hint"].startswith("Adopt the data: mosaic-gateway install")
    status = site.run("status")
    assert status.code == 3
    assert "was uninstalled; its data is retained" in status.out
    assert "mosaic-gateway start" not in status.out + status.err
    twice = site.run("uninstall")
    assert twice.out.splitlines()[-1] == (
        f"Retained in {site.path}: data, secrets, config.toml. To remove that as well: "
        f"mosaic-gateway uninstall --home {site.path} --purge={identity}"
    )
    assert site.json("uninstall").result["removed"] == []
    examined = site.json("doctor")
    levels = {finding["check"]: finding["level"] for finding in examined.result["findings"]}
    assert (examined.code, levels["receipt"], levels["programs"]) == (0, "warning", "unchecked")
    assert "fault" not in levels.values()
    assert "UNINSTALLED" in examined.out

    again = site.install()
    assert again.steps == ["home", "program", "launch", "runtime", "start"]
    assert again.result["instance_id"] == identity
    assert again.result["smoke_test"]["needsSetup"] is False
    assert again.result["setup_url"] is None
    assert (site.home.auth_secret.read_bytes(), site.home.config_file.read_bytes()) == (secret, settings)
    assert site.receipt()["state"] == "installed"
    assert _sign_in(site) == 200


@on_both_engines
@pytest.mark.slow
def test_no_new_secret_is_created_for_retained_data(site: Site) -> None:
    """A missing or empty secret is refused; a secret from the environment is stored. Another engine is refused."""
    site.installed("--no-start")
    site.json("uninstall")
    other = site.install("--engine", "server", "--database-url", "postgresql://127.0.0.1:1/x")
    assert other.code == 7
    assert "ENGINE_MISMATCH" in other.out
    secret = site.home.auth_secret.read_text().strip()
    before = site.receipt()
    for damage in (lambda: site.home.auth_secret.write_text(""), site.home.auth_secret.unlink):
        damage()
        done = site.install()
        assert (done.code, done.error["code"]) == (7, "SECRET_LOST")
        assert site.receipt() == before
        assert not site.home.run.exists()
    site.installed("--no-start", BETTER_AUTH_SECRET=secret)
    assert site.home.auth_secret.read_text().strip() == secret


@on_both_engines
@pytest.mark.slow
def test_a_failed_adoption_loses_nothing(site: Site) -> None:
    """A failed adoption removes what it created, and neither receipt, data, settings nor secret."""
    site.installed("--no-start")
    site.json("uninstall")
    [cluster] = (path for path in site.home.data.iterdir() if path.is_dir())
    before = site.receipt()
    retained = {path.name for path in site.path.iterdir()}
    (cluster / "postgresql.auto.conf").write_text("no_such_setting = 1\n")
    failed = site.install()
    assert failed.code == 1, failed.out
    assert failed.error["code"] == "ENGINE_START"
    assert "no_such_setting" in failed.error["message"]
    assert site.receipt() == before
    assert {path.name for path in site.path.iterdir()} == retained
    site.assert_nothing_runs()
    (cluster / "postgresql.auto.conf").write_text("")
    assert site.installed()["instance_id"] == before["instance_id"]


@on_both_engines
def test_purge_removes_everything(site: Site) -> None:
    """With the instance id, home and processes are removed, and the port is free."""
    site.installed()
    identity = site.receipt()["instance_id"]
    site.run("install", "--json")
    planned = site.json("uninstall", "--dry-run", f"--purge={identity}").result
    assert site.json("uninstall", "--dry-run", "--purge").result == planned  # needs no confirmation
    assert site.path.exists()
    done = site.json("uninstall", f"--purge={identity}").result
    assert done["purged"] is True
    assert done["retained"] == []
    assert done["removed"] == planned["removed"]
    assert not list(site.path.parent.iterdir())
    site.assert_nothing_runs()
    missing = site.json("uninstall")
    assert (missing.code, missing.error["code"]) == (3, "NOT_INSTALLED")


@on_both_engines
@pytest.mark.slow
def test_purge_does_not_remove_foreign_files(site: Site) -> None:
    """Temporary files of killed runs are removed; a foreign file in the home stays, and so does the home."""
    site.installed("--no-start")
    for path in (site.path / ".config.toml.0a1b2c3d.tmp", site.home.secrets / ".auth-secret.0a1b2c3d.tmp"):
        path.touch(0o600)
    (site.path / "notes.txt").write_text("mine")
    done = site.json("uninstall", f"--purge={site.receipt()['instance_id']}")
    assert done.code == 0
    assert [path.name for path in site.path.iterdir()] == ["notes.txt"]


@pytest.mark.slow
def test_the_last_line_ends_with_the_purge_command(make_site: MakeSite) -> None:
    """The command is quoted for a shell, whatever the path, and purges this home."""
    site = make_site("a home of ünïcödé's")
    site.installed("--no-start")
    done = site.run("uninstall")
    assert done.code == 0, done.err
    identity = site.receipt()["instance_id"]
    _, command = done.out.splitlines()[-1].split("To remove that as well: ")
    program, *words = shlex.split(command)
    assert (program, words) == ("mosaic-gateway", ["uninstall", "--home", str(site.path), f"--purge={identity}"])
    assert site.run(*words[:1], words[-1]).code == 0
    assert not list(site.path.parent.iterdir())


@pytest.fixture(scope="module")
def stopped(make_site: MakeSite) -> Site:
    """Return an installed site without a running gateway, for commands that are refused."""
    created = make_site()
    created.installed("--no-start")
    return created


@pytest.mark.slow
def test_purge_without_a_terminal_needs_the_id(stopped: Site) -> None:
    """Without a terminal the id must be an argument; nothing is removed."""
    done = stopped.run("uninstall", "--json", "--purge")
    assert (done.code, done.error["code"]) == (2, "CONFIRMATION_MISSING")
    assert stopped.home.data.exists()


def test_purge_with_another_id_removes_nothing(stopped: Site) -> None:
    """The id of another instance is refused."""
    done = stopped.json("uninstall", "--purge=0123456789abcdef")
    assert (done.code, done.error["code"]) == (7, "PURGE_NOT_CONFIRMED")
    assert stopped.home.data.exists()
    assert stopped.home.runtime.exists()


@on_both_engines
def test_purge_is_refused_while_the_database_is_in_use(stopped: Site) -> None:
    """While another command runs the database, nothing is removed, and the error names its process."""
    # After the server started, the command reads the result of an earlier self-test of the CPU.
    user = stopped.popen("auth", "users", "list", trap=trap_at("self-test result opened", act="SIGSTOP"))
    assert os.WIFSTOPPED(os.waitpid(user.pid, os.WUNTRACED)[1])
    done = stopped.json("uninstall", f"--purge={stopped.receipt()['instance_id']}")
    assert (done.code, done.error["code"]) == (6, "ENGINE_BUSY")
    assert str(user.pid) in done.error["message"]
    assert stopped.home.data.exists()
    user.send_signal(18)
    assert user.wait(LIMIT) == 0


@pytest.mark.parametrize("answer", ["wrong", pytest.param("right", marks=pytest.mark.slow)])
def test_purge_on_a_terminal_asks_for_the_id(stopped: Site, make_site: MakeSite, answer: str) -> None:
    """The prompt names what is removed; only the instance id is accepted."""
    site = stopped
    if answer == "right":
        site = make_site()
        site.installed("--no-start")
    identity = site.receipt()["instance_id"]
    reply = identity if answer == "right" else "yes"
    leader, follower = pty.openpty()
    argv = [
        sys.executable,
        "-P",
        "-m",
        "mosaic_gateway_installer.cli",
        "uninstall",
        "--purge",
        "--home",
        str(site.path),
    ]
    with subprocess.Popen(argv, stdin=follower, stdout=follower, stderr=follower, env=site.environ, cwd="/") as process:
        os.close(follower)
        shown, sent, deadline = b"", False, time.monotonic() + LIMIT
        while time.monotonic() < deadline and process.poll() is None:
            if select.select([leader], [], [], 0.05)[0]:
                try:
                    shown += os.read(leader, 4096)
                except OSError:  # the other end is closed
                    break
            if identity.encode() in shown and not sent:
                os.write(leader, f"{reply}\n".encode())
                sent = True
        code = process.wait(LIMIT)
    os.close(leader)
    assert b"removes all data and all backups of" in shown
    if answer == "right":
        assert shown.index(b"Delete what was set aside permanently") > shown.index("✓".encode()), (
            "the step that is reported as running is not the first one"
        )
    assert code == (0 if answer == "right" else 7)
    assert site.path.exists() is (answer == "wrong")
