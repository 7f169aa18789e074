"""Upgrades from an older version to a newer one: success, failures, interruptions, kills and rollback."""

from __future__ import annotations

import json
import os
import signal
import subprocess
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from tests.lifecycle.old_home import Old
from tests.support.site import MakeSite
from tests.support.traps.kill_points import trap_at

from mosaic_gateway.gateway.control.program import current_program
from mosaic_gateway.installation.upgrade_state import mark_file

OLD, NEW, GOOD, BAD, NOT_STARTING, NOT_WELL = "0.0.9", "0.1.0", "0.2.0", "0.3.0", "0.4.0", "0.5.0"
#: Tables into which the migrations themselves write.
MIGRATION_TABLES = {'"drizzle"."__drizzle_migrations"', '"mosaic"."migration_progress"'}
Version = Callable[[str], Path]
STEPS = [
    "program",
    "copy",
    "mark",
    "stop",
    "launch",
    "backup",
    "migrate",
    "start",
    "smoke-test",
    "switch",
    "seal",
    "prune",
]


def assert_serves(site: Old, version: str) -> None:
    """Assert that *version* serves from its own program copy, with all rows, documents and the session from before."""
    program = current_program(site.home)
    assert program is not None
    assert program.version == version
    assert site.request("GET", "/readyz")[1]["version"] == version
    assert site.request("GET", "/api/bootstrap/status") == (200, {"needsSetup": False})
    present = site.rows()
    assert [rows for rows in site.before if rows not in present and rows.table not in MIGRATION_TABLES] == []
    assert tuple(site.documents()) == site.before_documents
    assert site.session()["user"]["email"] == "ada@example.com"
    assert site.receipt()["version"] == version
    assert not mark_file(site.home).exists()
    assert not site.home.journal.exists()
    assert not [path for name in (".", "runtime", "backups") for path in site.path.glob(f"{name}/.*.tmp")]


def assert_old_again(site: Old) -> None:
    """Assert that program, rows of all tables, receipt and runtimes are as before the upgrade, without a backup."""
    assert_serves(site, OLD)
    assert site.rows() == site.before
    assert sorted(path.name for path in site.home.runtime.iterdir() if path.name.startswith("gateway-")) == [
        f"gateway-{OLD}"
    ]
    assert not list(site.path.glob("backups/*"))
    programs = {process.cmdline()[4] for process in site.processes() if "supervise" in process.cmdline()}
    assert all(program.startswith("/proc/self/fd/") or program.endswith(f"gateway-{OLD}") for program in programs)


def test_upgrade(old: Old, version: Version) -> None:
    """Rows, documents, sessions, secrets and settings are the same; the old program copy stays beside the new one."""
    secret, settings = old.home.auth_secret.read_bytes(), old.home.config_file.read_bytes()
    planned = old.run_version(version(NEW), "upgrade", "--dry-run").result
    assert [step["id"] for step in planned["steps"]] == STEPS
    assert not list(old.path.glob("backups"))
    done = old.run_version(version(NEW), "upgrade").result
    assert [step["id"] for step in done["steps"]] == STEPS
    assert (done["from"], done["to"], done["changed"]) == (OLD, NEW, True)
    assert done["smoke_test"]["needsSetup"] is False
    assert done["downtime_seconds"] > 0
    assert_serves(old, NEW)
    assert (old.home.auth_secret.read_bytes(), old.home.config_file.read_bytes()) == (secret, settings)
    assert {path.name for path in old.home.runtime.iterdir()} >= {f"gateway-{OLD}", f"gateway-{NEW}", "current"}
    assert [path.name for path in old.path.glob("backups/*")] == [done["backup"]]
    verified = old.run_version(version(NEW), "backup", "verify", done["backup"])
    assert verified.code == 0, verified.out
    again = old.run_version(version(NEW), "upgrade").result
    assert (again["changed"], again["steps"]) == (False, [])
    doctor = subprocess.run([old.path / "bin/mosaic-gateway", "doctor"], capture_output=True, timeout=60, check=False)
    assert doctor.returncode == 0, doctor.stdout


@pytest.mark.lifecycle
def test_two_upgrades(old: Old, version: Version) -> None:
    """After two upgrades the previous program copy is retained, and the one before it is removed."""
    assert old.run_version(version(NEW), "upgrade").code == 0
    assert old.run_version(version(GOOD), "upgrade").code == 0
    assert_serves(old, GOOD)
    assert {row.table: row.count for row in old.rows()}['"public"."notes"'] == 10
    names = {path.name for path in old.home.runtime.iterdir() if path.name.startswith("gateway-")}
    assert names == {f"gateway-{NEW}", f"gateway-{GOOD}"}


@pytest.mark.parametrize(
    ("bad", "code", "message"),
    [
        (BAD, 4, "division by zero"),
        (NOT_STARTING, 1, "deliberate failure"),
        (NOT_WELL, 5, "needsAdmin"),
    ],
)
def test_failed_upgrade(old: Old, version: Version, bad: str, code: int, message: str) -> None:
    """After a failed migration, start or smoke test the old version serves the old rows, and the error says why."""
    failed = old.run_version(version(bad), "upgrade")
    assert failed.code == code, (failed.out, failed.err)
    assert message in failed.error["message"]
    assert f"version {OLD} serves again" in failed.error["message"]
    assert "then run it again: mosaic-gateway upgrade" in failed.error["hint"]
    assert str(old.home.gateway_log) in failed.error["message"]
    assert_old_again(old)
    done = old.run_version(version(NEW), "upgrade")
    assert done.code == 0, done.out
    assert_serves(old, NEW)


@pytest.mark.lifecycle
@pytest.mark.parametrize(("bad", "code"), [(BAD, 4), (NOT_STARTING, 1), (NOT_WELL, 5)])
def test_failed_first_installation(make_site: MakeSite, version: Version, bad: str, code: int) -> None:
    """No files remain, and the hint does not refer to the log or to verbs that need an installation."""
    site = make_site()
    failed = site.run(*site.install_words(), PYTHONPATH=str(version(bad)))
    assert failed.code == code, (failed.out, failed.err)
    assert "then run it again: mosaic-gateway install" in failed.error["hint"]
    assert bad != NOT_STARTING or "gateway/app.py, line " in failed.error["message"]
    assert not site.path.exists()
    site.assert_nothing_runs()


def test_upgrade_of_a_stopped_gateway(old: Old, version: Version) -> None:
    """A stopped gateway is upgraded and tested, and stopped again."""
    assert old.run_version(version(NEW), "stop").code == 0
    done = old.run_version(version(NEW), "upgrade").result
    assert [step["id"] for step in done["steps"]][-3:] == ["stop-again", "seal", "prune"]
    assert "stop" not in [step["id"] for step in done["steps"]]
    assert done["smoke_test"]["needsSetup"] is False
    old.assert_nothing_runs()
    assert old.run_version(version(NEW), "start").code == 0
    assert_serves(old, NEW)


def test_downgrade_is_refused_before_any_write(old: Old, version: Version) -> None:
    """After a newer version has changed the schema, upgrade and install of the older one are refused."""
    assert old.run_version(version(NEW), "upgrade").code == 0
    before = sorted((str(path), path.lstat().st_mtime_ns) for path in old.path.rglob("*") if "run" not in path.parts)
    for words, code in (
        (("upgrade",), "DOWNGRADE"),
        (("upgrade", "--dry-run"), "DOWNGRADE"),
        (("install",), "SCHEMA_NEWER"),
    ):
        refused = old.run_version(version(OLD), *words)
        assert (refused.code, refused.error["code"]) == (7, code), (words, refused.out)
        assert f"mosaic-gateway>={NEW}" in refused.error["hint"]
    retained = [
        path for path in before if "/logs" not in path[0] and "/data" not in path[0] and not path[0].endswith(".lock")
    ]
    after = {str(path): path.lstat().st_mtime_ns for path in old.path.rglob("*")}
    assert [name for name, changed in retained if after.get(name) != changed] == []
    assert_serves(old, NEW)


def test_other_verbs_of_the_new_package_do_not_migrate(old: Old, version: Version) -> None:
    """They refer to ``upgrade`` and migrate nothing; ``restart`` starts the home's old program copy."""
    for words in (("install",), ("storage", "migrate")):
        refused = old.run_version(version(NEW), *words)
        assert (refused.code, refused.error["code"]) == (7, "UPGRADE_NEEDED"), words
        assert "mosaic-gateway upgrade" in refused.error["hint"]
    doctor = old.run_version(version(NEW), "doctor", "--fix")
    assert doctor.code == 0, doctor.out
    advice = [finding for finding in doctor.result["findings"] if finding["level"] not in {"ok", "unchecked"}]
    assert [finding["code"] for finding in advice] == ["OLDER_VERSION"]
    assert "mosaic-gateway upgrade" in advice[0]["hint"]
    assert old.run_version(version(NEW), "restart").code == 0
    assert_old_again(old)
    assert old.run_version(version(NEW), "stop").code == 0
    served = old.run_version(version(NEW), "serve")
    assert (served.code, served.error["code"]) == (7, "UPGRADE_NEEDED")


@pytest.mark.parametrize("act", ["SIGINT", "SIGTERM"])
def test_interrupted_upgrade(old: Old, version: Version, act: str) -> None:
    """SIGINT and SIGTERM during the migration roll the upgrade back."""
    trap = trap_at("journal line", 13, act=act)
    done = old.run_version(version(NEW), "upgrade", trap=trap)
    assert done.code == 130, (done.out, done.err)
    assert_old_again(old)


def test_concurrent_upgrades(old: Old, version: Version) -> None:
    """A second upgrade, and an uninstall, fail with HOME_BUSY, and name the process that holds the lock."""
    trap = trap_at("journal line", 11, act="SIGSTOP")
    winner = old.popen_version(version(NEW), "upgrade", trap=trap)
    _, status = os.waitpid(winner.pid, os.WUNTRACED)
    assert os.WIFSTOPPED(status)
    for words in (("upgrade",), ("uninstall",)):
        loser = old.run_version(version(NEW), *words)
        assert (loser.code, loser.error["code"]) == (6, "HOME_BUSY")
        assert loser.error["details"] == {"pid": winner.pid, "verb": "upgrade"}
    refused = old.run_version(version(NEW), "start")
    assert refused.code in {6, 7}, refused.out
    winner.send_signal(signal.SIGCONT)
    assert winner.wait(90) == 0
    assert_serves(old, NEW)


def _kill(site: Old, package: Path, count: int) -> dict[str, Any]:
    """Kill an upgrade as it writes its *count*-th line into the journal; return the previous line."""
    trap = trap_at("journal line", count)
    done = site.run_version(package, "upgrade", trap=trap)
    assert done.code == -signal.SIGKILL, (done.code, done.out, done.err)
    lines = site.home.journal.read_bytes().splitlines() if site.home.journal.exists() else []
    return json.loads(lines[-1]) if lines else {}


#: The journal has two lines for each reversible step: its start and its end.
POINTS = range(1, 2 * (len(STEPS) - 2) + 1)


def _points(*always: int) -> list[Any]:
    """Return all points as parameters; those not in *always* are marked `lifecycle`."""
    return [point if point in always else pytest.param(point, marks=pytest.mark.lifecycle) for point in POINTS]


@pytest.mark.parametrize("count", _points(4, 10, 14, 18, 20))
def test_upgrade_again_after_kill(old: Old, version: Version, count: int) -> None:
    """After a kill before or after any step, the next upgrade has the same result as an uninterrupted one."""
    _kill(old, version(NEW), count)
    done = old.run_version(version(NEW), "upgrade")
    assert done.code == 0, (done.out, done.err)
    assert_serves(old, NEW)
    [manifest] = old.path.glob("backups/*/manifest.json")
    assert all(digest for _, _, digest in json.loads(manifest.read_text())["files"])
    assert old.run_version(version(NEW), "upgrade").result["changed"] is False


@pytest.mark.parametrize("count", _points(16, 19))
def test_abort_by_the_old_version_after_kill(old: Old, version: Version, count: int) -> None:
    """After a kill before or after any step and ``--abort``, the old version serves the old rows again."""
    _kill(old, version(NEW), count)
    started = old.run_version(version(OLD), "start")
    if started.code != 0:
        assert started.error["code"] == "UPGRADE_UNFINISHED"
        assert "mosaic-gateway upgrade" in started.error["hint"]
    done = old.run_version(version(OLD), "upgrade", "--abort")
    assert done.code == 0, (done.out, done.err)
    if old.receipt()["version"] == NEW:  # killed after the switch: the upgrade is complete
        assert count == POINTS[-1]
        assert_serves(old, NEW)
    else:
        assert_old_again_beside_a_new_program(old)


def assert_old_again_beside_a_new_program(site: Old) -> None:
    """As `assert_old_again`, but the program copy of the killed run may exist beside the one in use."""
    for path in site.home.runtime.glob(f"gateway-{NEW}"):
        path.rename(site.path / "staged")
    try:
        assert_serves(site, OLD)
        assert site.rows() == site.before
    finally:
        for path in site.path.glob("staged"):
            path.rename(site.home.runtime / f"gateway-{NEW}")


@pytest.mark.lifecycle
@pytest.mark.parametrize("bad", [BAD, NOT_WELL])
def test_failure_after_a_kill(old: Old, version: Version, bad: str) -> None:
    """If a resumed upgrade fails, the steps of the killed run are rolled back as well."""
    for count in (14, 16):
        _kill(old, version(bad), min(count, 13 if bad == BAD else count))
        failed = old.run_version(version(bad), "upgrade")
        assert failed.code in {4, 5}, failed.out
        assert f"version {OLD} serves again" in failed.error["message"]
        assert_old_again_beside_a_new_program(old)


@pytest.mark.parametrize(
    "point",
    [
        pytest.param("new secrets put aside", marks=pytest.mark.lifecycle),
        pytest.param("old secrets put in place", marks=pytest.mark.lifecycle),
        pytest.param("old receipt put in place", marks=pytest.mark.lifecycle),
        pytest.param("new data put aside", marks=pytest.mark.lifecycle),
        "old data put in place",
    ],
)
@pytest.mark.parametrize("then", [("upgrade", "--abort"), ("upgrade",), ("install",)])
def test_killed_rollback(old: Old, version: Version, point: str, then: tuple[str, ...]) -> None:
    """After a kill between the renames of a rollback no gateway starts, and the next verb completes the rollback."""
    trap = trap_at(point)
    done = old.run_version(version(BAD), "upgrade", trap=trap)
    assert done.code == -signal.SIGKILL, (done.code, done.out)
    for package in (version(OLD), version(BAD)):
        refused = old.run_version(package, "start")
        assert (refused.code, refused.error["code"]) == (7, "UPGRADE_UNFINISHED")
    doctor = old.run_version(version(OLD), "doctor")
    assert "UPGRADE_UNFINISHED" in doctor.out
    completed = old.run_version(version(OLD), *then)
    assert completed.code == 0, completed.out
    assert_serves(old, OLD)
    assert old.rows() == old.before


def test_new_gateway_exits_with_a_killed_upgrade(old: Old, version: Version) -> None:
    """Before the switch the new gateway exits with the installer, so that no writes are lost by a rollback."""
    _kill(old, version(NEW), 17)  # started; the smoke test begins
    old.assert_nothing_runs()
    done = old.run_version(version(NEW), "upgrade")
    assert done.code == 0, done.out
    with closing(_client(old)):
        assert_serves(old, NEW)


def _client(site: Old) -> Any:
    import http.client  # noqa: PLC0415 - only here

    return http.client.HTTPConnection("127.0.0.1", site.port, timeout=10)
