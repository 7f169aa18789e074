"""Upgrades to a package that ships the next minor version of PostgreSQL."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest
from tests.lifecycle.new_minor import next_minor, write_next_minor
from tests.lifecycle.old_home import Old
from tests.lifecycle.test_upgrade import STEPS, assert_old_again, assert_serves
from tests.lifecycle.versions import BAD, NEW, OLD
from tests.support.site_database import connect_to

from mosaic_gateway.engines.postgres.runtime import wheel_version

Version = Callable[[str], Path]
pytestmark = [pytest.mark.slow, pytest.mark.lifecycle]


@pytest.fixture(scope="session")
def later(version: Version, scratch_root: Path) -> Callable[[str], Path]:
    """Return a function that unpacks a version together with the next minor version of PostgreSQL."""

    def unpack(name: str) -> Path:
        target = scratch_root / f"later-{name}"
        if not target.exists():
            shutil.copytree(version(name), target)
            write_next_minor(target, wheel_version())
            target.chmod(0o755)
        return target

    return unpack


def assert_runs_on(site: Old, programs: str) -> None:
    """Assert that the server reports version *programs*, runs from that copy, and can search vectors."""
    with closing(connect_to(site)) as connection:
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


def test_upgrade_and_revert(old: Old, later: Version) -> None:
    """All rows are retained; the old programs stay beside the new ones, and the upgrade can be reverted."""
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


def test_failed_upgrade(old: Old, later: Version) -> None:
    """The new programs are removed, and the old gateway serves with the old programs."""
    failed = old.run_version(later(BAD), "upgrade")
    assert failed.code == 4, failed.out
    assert_old_again(old)
    assert_runs_on(old, wheel_version())
    assert runtimes(old) == {f"postgresql-{wheel_version()}"}


def test_upgrade_of_postgresql_only(old: Old, later: Version) -> None:
    """With the same gateway version, doctor reports the outdated PostgreSQL, and the upgrade replaces it once."""
    after = next_minor(wheel_version())
    outdated = old.run_version(later(OLD), "doctor")
    assert "POSTGRES_OUTDATED" in outdated.out
    done = old.run_version(later(OLD), "upgrade")
    assert done.code == 0, (done.out, done.err)
    assert_serves(old, OLD)
    assert_runs_on(old, after)
    assert old.run_version(later(OLD), "upgrade").result["changed"] is False
    assert "POSTGRES_OUTDATED" not in old.run_version(later(OLD), "doctor").out
