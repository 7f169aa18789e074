"""From an older version to a newer one: nothing of the data is lost, whatever comes in between."""

from __future__ import annotations

import json
import os
import signal
import subprocess
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from mosaic_gateway.gateway.control.program import current_program
from mosaic_gateway.installation.upgrade_state import mark_file

if TYPE_CHECKING:
    from tests.installer.conftest import MakeSite
    from tests.lifecycle.conftest import Old

OLD, NEW, GOOD, BAD, NOT_STARTING, NOT_WELL = "0.0.9", "0.1.0", "0.2.0", "0.3.0", "0.4.0", "0.5.0"
#: What a migration itself writes into.
GROWS = {'"drizzle"."__drizzle_migrations"', '"mosaic"."migration_progress"'}
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
    """The gateway of *version* serves by its own program, with every row and document as before, and the session."""
    program = current_program(site.home)
    assert program is not None
    assert program.version == version
    assert site.request("GET", "/readyz")[1]["version"] == version
    assert site.request("GET", "/api/bootstrap/status") == (200, {"needsSetup": False})
    found = site.rows()
    assert [rows for rows in site.before if rows not in found and rows.table not in GROWS] == []
    assert tuple(site.documents()) == site.before_documents
    assert site.session()["user"]["email"] == "ada@example.com"
    assert site.receipt()["version"] == version
    assert not mark_file(site.home).exists()
    assert not site.home.journal.exists()
    assert not [path for place in (".", "runtime", "backups") for path in site.path.glob(f"{place}/.*.tmp")]


def assert_old_again(site: Old) -> None:
    """It is as if the upgrade had never been tried: program, rows of all tables, receipt, runtimes, no backup left."""
    assert_serves(site, OLD)
    assert site.rows() == site.before
    assert sorted(path.name for path in site.home.runtime.iterdir() if path.name.startswith("gateway-")) == [
        f"gateway-{OLD}"
    ]
    assert not list(site.path.glob("backups/*"))
    programs = {process.cmdline()[4] for process in site.processes() if "supervise" in process.cmdline()}
    assert all(program.startswith("/proc/self/fd/") or program.endswith(f"gateway-{OLD}") for program in programs)


def test_an_upgrade_keeps_every_row(old: Old, version: Version) -> None:
    """Rows, documents, sessions, secrets and settings are the same; the old program stays beside the new one."""
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
def test_a_later_version_takes_over_in_turn(old: Old, version: Version) -> None:
    """Two upgrades: the program of before the last one is kept, the one before that goes."""
    assert old.run_version(version(NEW), "upgrade").code == 0
    assert old.run_version(version(GOOD), "upgrade").code == 0
    assert_serves(old, GOOD)
    assert {row.table: row.count for row in old.rows()}['"public"."notes"'] == 10
    names = {path.name for path in old.home.runtime.iterdir() if path.name.startswith("gateway-")}
    assert names == {f"gateway-{NEW}", f"gateway-{GOOD}"}


@pytest.mark.parametrize(
    ("bad", "code", "said"),
    [
        (BAD, 4, "division by zero"),
        (NOT_STARTING, 1, "born broken"),
        (NOT_WELL, 5, "needsAdmin"),
    ],
)
def test_what_fails_is_taken_back(old: Old, version: Version, bad: str, code: int, said: str) -> None:
    """A migration, a start or a smoke test that fails: the old version serves the old rows, and the error says why."""
    failed = old.run_version(version(bad), "upgrade")
    assert failed.code == code, (failed.out, failed.err)
    assert said in failed.error["message"]
    assert f"version {OLD} serves again" in failed.error["message"]
    assert "then run it again: mosaic-gateway upgrade" in failed.error["hint"]
    assert str(old.home.gateway_log) in failed.error["message"]
    assert_old_again(old)
    done = old.run_version(version(NEW), "upgrade")
    assert done.code == 0, done.out
    assert_serves(old, NEW)


@pytest.mark.lifecycle
@pytest.mark.parametrize(("bad", "code"), [(BAD, 4), (NOT_STARTING, 1), (NOT_WELL, 5)])
def test_a_first_installation_that_fails_leaves_nothing(
    make_site: MakeSite, version: Version, bad: str, code: int
) -> None:
    """The advice is for somebody who has no home: neither its log nor its other verbs are of use."""
    site = make_site()
    failed = site.run(*site.install_words(), PYTHONPATH=str(version(bad)))
    assert failed.code == code, (failed.out, failed.err)
    assert "then run it again: mosaic-gateway install" in failed.error["hint"]
    assert bad != NOT_STARTING or "gateway/app.py, line " in failed.error["message"]
    assert not site.path.exists()
    site.assert_nothing_runs()


def test_what_did_not_run_is_not_left_running(old: Old, version: Version) -> None:
    """A stopped gateway is upgraded and tested, and stopped again."""
    assert old.run_version(version(NEW), "stop").code == 0
    done = old.run_version(version(NEW), "upgrade").result
    assert [step["id"] for step in done["steps"]][-3:] == ["stop-again", "seal", "prune"]
    assert "stop" not in [step["id"] for step in done["steps"]]
    assert done["smoke_test"]["needsSetup"] is False
    old.assert_nothing_runs()
    assert old.run_version(version(NEW), "start").code == 0
    assert_serves(old, NEW)


def test_older_code_is_refused_before_any_write(old: Old, version: Version) -> None:
    """Once a newer version has changed the schema, the older one's upgrade and install say so, and touch nothing."""
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


def test_the_new_package_leaves_an_old_home_alone_until_it_is_upgraded(old: Old, version: Version) -> None:
    """All name the verb, none migrates; ``restart`` starts the home's own program, which is still the old one."""
    for words in (("install",), ("storage", "migrate")):
        refused = old.run_version(version(NEW), *words)
        assert (refused.code, refused.error["code"]) == (7, "UPGRADE_NEEDED"), words
        assert "mosaic-gateway upgrade" in refused.error["hint"]
    doctor = old.run_version(version(NEW), "doctor", "--fix")
    assert doctor.code == 0, doctor.out
    advice = [found for found in doctor.result["findings"] if found["level"] not in {"ok", "unchecked"}]
    assert [found["code"] for found in advice] == ["UPGRADE_NEEDED"]
    assert "mosaic-gateway upgrade" in advice[0]["hint"]
    assert old.run_version(version(NEW), "restart").code == 0
    assert_old_again(old)
    assert old.run_version(version(NEW), "stop").code == 0
    served = old.run_version(version(NEW), "serve")
    assert (served.code, served.error["code"]) == (7, "UPGRADE_NEEDED")


@pytest.mark.parametrize("act", ["SIGINT", "SIGTERM"])
def test_an_interrupted_upgrade_is_taken_back(old: Old, version: Version, act: str) -> None:
    """Ctrl-C and SIGTERM in the middle of the migration."""
    trap = {"event": "open", "text": "journal.jsonl', None", "count": 13, "act": act}
    done = old.run_version(version(NEW), "upgrade", trap=trap)
    assert done.code == 130, (done.out, done.err)
    assert_old_again(old)


def test_of_two_upgrades_at_once_one_works(old: Old, version: Version) -> None:
    """The other one is told who holds the home; so is an uninstall."""
    trap = {"event": "open", "text": "journal.jsonl', None", "count": 11, "act": "SIGSTOP"}
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


def _kill(site: Old, place: Path, count: int) -> dict[str, Any]:
    """Kill an upgrade as it writes its *count*-th line into the journal; return the line before."""
    trap = {"event": "open", "text": "journal.jsonl', None", "count": count, "act": "SIGKILL"}
    done = site.run_version(place, "upgrade", trap=trap)
    assert done.code == -signal.SIGKILL, (done.code, done.out, done.err)
    lines = site.home.journal.read_bytes().splitlines() if site.home.journal.exists() else []
    return json.loads(lines[-1]) if lines else {}


#: Two lines for each step that can be taken back: it begins, it is done.
POINTS = range(1, 2 * (len(STEPS) - 2) + 1)


def _points(*heart: int) -> list[Any]:
    """Return every point; all but *heart* are for the whole life cycle."""
    return [point if point in heart else pytest.param(point, marks=pytest.mark.lifecycle) for point in POINTS]


@pytest.mark.parametrize("count", _points(4, 10, 14, 18, 20))
def test_a_killed_upgrade_goes_on_when_it_is_run_again(old: Old, version: Version, count: int) -> None:
    """Killed before and after every step: the same verb again ends as an undisturbed one; nothing else is needed."""
    _kill(old, version(NEW), count)
    done = old.run_version(version(NEW), "upgrade")
    assert done.code == 0, (done.out, done.err)
    assert_serves(old, NEW)
    [manifest] = old.path.glob("backups/*/manifest.json")
    assert all(digest for _, _, digest in json.loads(manifest.read_text())["files"])
    assert old.run_version(version(NEW), "upgrade").result["changed"] is False


@pytest.mark.parametrize("count", _points(16, 19))
def test_a_killed_upgrade_is_taken_back_by_the_old_program(old: Old, version: Version, count: int) -> None:
    """Killed before and after every step, then ``--abort``: the old version serves the old rows again."""
    _kill(old, version(NEW), count)
    started = old.run_version(version(OLD), "start")
    if started.code != 0:
        assert started.error["code"] == "UPGRADE_UNFINISHED"
        assert "mosaic-gateway upgrade" in started.error["hint"]
    done = old.run_version(version(OLD), "upgrade", "--abort")
    assert done.code == 0, (done.out, done.err)
    if old.receipt()["version"] == NEW:  # killed when all was in force: there is nothing to go back from
        assert count == POINTS[-1]
        assert_serves(old, NEW)
    else:
        assert_old_again_but_for_the_staged(old)


def assert_old_again_but_for_the_staged(site: Old) -> None:
    """As `assert_old_again`; a program that the killed run had copied may lie beside the one in use."""
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
def test_a_failure_after_a_kill_is_taken_back_as_well(old: Old, version: Version, bad: str) -> None:
    """The resumed run did not do the first steps itself; the old version serves again all the same."""
    for count in (14, 16):
        _kill(old, version(bad), min(count, 13 if bad == BAD else count))
        failed = old.run_version(version(bad), "upgrade")
        assert failed.code in {4, 5}, failed.out
        assert f"version {OLD} serves again" in failed.error["message"]
        assert_old_again_but_for_the_staged(old)


@pytest.mark.parametrize(
    "text",
    [
        pytest.param(".upgraded.tmp/secrets'", marks=pytest.mark.lifecycle),
        pytest.param(f"-{OLD}/secrets'", marks=pytest.mark.lifecycle),
        pytest.param(f"-{OLD}/receipt.json'", marks=pytest.mark.lifecycle),
        pytest.param(".upgraded.tmp/data'", marks=pytest.mark.lifecycle),
        f"-{OLD}/data'",
    ],
)
@pytest.mark.parametrize("then", [("upgrade", "--abort"), ("upgrade",), ("install",)])
def test_a_killed_way_back_goes_on(old: Old, version: Version, text: str, then: tuple[str, ...]) -> None:
    """Killed between the renames that bring the data back: no gateway starts, and the next verb completes them."""
    trap = {"event": "os.rename", "text": text, "count": 1, "act": "SIGKILL"}
    done = old.run_version(version(BAD), "upgrade", trap=trap)
    assert done.code == -signal.SIGKILL, (done.code, done.out)
    for place in (version(OLD), version(BAD)):
        refused = old.run_version(place, "start")
        assert (refused.code, refused.error["code"]) == (7, "UPGRADE_UNFINISHED")
    doctor = old.run_version(version(OLD), "doctor")
    assert "UPGRADE_UNFINISHED" in doctor.out
    completed = old.run_version(version(OLD), *then)
    assert completed.code == 0, completed.out
    assert_serves(old, OLD)
    assert old.rows() == old.before


def test_the_new_gateway_does_not_outlive_a_killed_upgrade(old: Old, version: Version) -> None:
    """Until the upgrade is complete the new gateway is tied to it: nobody's writes go where they could be lost."""
    _kill(old, version(NEW), 17)  # started; the smoke test begins
    old.assert_nothing_runs()
    done = old.run_version(version(NEW), "upgrade")
    assert done.code == 0, done.out
    with closing(_client(old)):
        assert_serves(old, NEW)


def _client(site: Old) -> Any:
    import http.client  # noqa: PLC0415 - only here

    return http.client.HTTPConnection("127.0.0.1", site.port, timeout=10)
