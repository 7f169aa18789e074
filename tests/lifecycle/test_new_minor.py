"""A package that brings the next minor version of PostgreSQL: its programs take over the data as it is."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from tests.lifecycle.conftest import BAD, NEW, OLD, _connect
from tests.lifecycle.new_minor import next_minor, write_next_minor
from tests.lifecycle.test_upgrade import STEPS, assert_old_again, assert_serves

from mosaic_gateway.engines.postgres.runtime import wheel_version

if TYPE_CHECKING:
    from tests.lifecycle.conftest import Old

Version = Callable[[str], Path]
pytestmark = [pytest.mark.slow, pytest.mark.lifecycle]


@pytest.fixture(scope="session")
def later(version: Version, scratch_root: Path) -> Callable[[str], Path]:
    """Return what unpacks a version together with the next minor version of PostgreSQL."""

    def unpack(name: str) -> Path:
        place = scratch_root / f"later-{name}"
        if not place.exists():
            shutil.copytree(version(name), place)
            write_next_minor(place, wheel_version())
            place.chmod(0o755)
        return place

    return unpack


def assert_runs_on(site: Old, programs: str) -> None:
    """The server of the gateway says that version, and its process is started from its copy; vectors work."""
    with closing(_connect(site)) as connection:
        assert connection.execute("SHOW server_version").fetchone() == (programs,)
        nearest = (
            "SELECT id FROM insights ORDER BY embedding <=> (SELECT embedding FROM insights WHERE id = 'i7') LIMIT 1"
        )
        assert connection.execute(nearest).fetchone() == ("i7",)
    servers = {process.exe() for process in site.processes() if process.name() == "postgres"}
    assert {Path(path).relative_to(site.home.runtime).parts[0] for path in servers} == {f"postgresql-{programs}"}


def runtimes(site: Old) -> set[str]:
    """Return the copies of PostgreSQL in the home."""
    return {path.name for path in site.home.runtime.glob("postgresql-*")}


def test_the_programs_are_swapped_and_the_gateway_restarted(old: Old, later: Version) -> None:
    """Every row stays; the programs of before stay beside the new ones, and the old gateway can come back."""
    before, after = wheel_version(), next_minor(wheel_version())
    planned = old.run_version(later(NEW), "upgrade", "--dry-run").result
    steps = [step["id"] for step in planned["steps"]]
    assert set(steps) == {*STEPS, "runtime"}
    assert steps.index("runtime") < steps.index("migrate")
    assert runtimes(old) == {f"postgresql-{before}"}
    done = old.run_version(later(NEW), "upgrade")
    assert done.code == 0, (done.out, done.err)
    assert_serves(old, NEW)
    assert_runs_on(old, after)
    assert runtimes(old) == {f"postgresql-{before}", f"postgresql-{after}"}
    doctor = old.run_version(later(NEW), "doctor")
    assert doctor.code == 0, doctor.out
    reverted = old.run_version(later(NEW), "upgrade", "--revert")
    assert reverted.code == 0, reverted.out
    assert_serves(old, OLD)
    assert_runs_on(old, after)


def test_a_failed_upgrade_leaves_the_old_programs_alone(old: Old, later: Version) -> None:
    """The new programs go with what failed, and the old gateway serves on its own ones."""
    failed = old.run_version(later(BAD), "upgrade")
    assert failed.code == 4, failed.out
    assert_old_again(old)
    assert_runs_on(old, wheel_version())
    assert runtimes(old) == {f"postgresql-{wheel_version()}"}


def test_new_programs_alone_are_a_reason(old: Old, later: Version) -> None:
    """The same gateway with a newer PostgreSQL: doctor says that it is outdated, the upgrade swaps it, once."""
    after = next_minor(wheel_version())
    outdated = old.run_version(later(OLD), "doctor")
    assert "POSTGRES_OUTDATED" in outdated.out
    done = old.run_version(later(OLD), "upgrade")
    assert done.code == 0, (done.out, done.err)
    assert_serves(old, OLD)
    assert_runs_on(old, after)
    assert old.run_version(later(OLD), "upgrade").result["changed"] is False
    assert "POSTGRES_OUTDATED" not in old.run_version(later(OLD), "doctor").out
