"""Installations over retained data of an older version, which is backed up before it is migrated."""

from __future__ import annotations

import signal
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from tests.lifecycle.old_home import Old
from tests.lifecycle.test_upgrade import assert_serves
from tests.lifecycle.versions import BAD, NEW, OLD
from tests.support.traps.kill_points import trap_at

if TYPE_CHECKING:
    from mosaic_gateway_installer.backup.row_checksums import Contents

Version = Callable[[str], Path]


@pytest.fixture
def retained(old: Old, version: Version) -> Old:
    """Return the home of the old version, uninstalled."""
    assert old.run_version(version(OLD), "uninstall").code == 0
    return old


def _install(site: Old, package: Path, **options: Any) -> Any:
    return site.run(*site.install_words(), PYTHONPATH=str(package), **options)


def test_backup_before_migration(retained: Old, version: Version) -> None:
    """The backup can be verified; a second install creates none."""
    done = _install(retained, version(NEW)).result
    assert "backup" in [step["id"] for step in done["steps"]]
    assert_serves(retained, NEW)
    [backup] = retained.path.glob("backups/*")
    verified = retained.run_version(version(NEW), "backup", "verify", backup.name)
    assert verified.code == 0, verified.out
    assert verified.result["version"] == OLD
    assert _install(retained, version(NEW)).result["steps"] == []


def test_no_backup_without_migration(retained: Old, version: Version) -> None:
    """The same version migrates nothing, and creates no backup."""
    done = _install(retained, version(OLD)).result
    assert "backup" not in [step["id"] for step in done["steps"]]
    assert not list(retained.path.glob("backups"))


@pytest.mark.lifecycle
def test_restore_of_an_older_backup(old: Old, version: Version) -> None:
    """The newer version restores and migrates an older backup; the older version refuses a newer backup."""
    upgraded = old.run_version(version(NEW), "upgrade").result
    later = old.run_version(version(NEW), "backup", "create").result["name"]
    user = ("auth", "users", "create", "--email", "late@example.com", "--name", "Late", "--password-stdin")
    assert old.run_version(version(NEW), *user, stdin="correct-horse-battery\n").code == 0
    restored = old.run_version(version(NEW), "backup", "restore", "--yes", upgraded["backup"])
    assert restored.code == 0, restored.out
    assert_serves(old, NEW)
    assert {row.table: row.count for row in old.rows()}['"public"."users"'] == _count_users(old.before)
    reverted = old.run_version(version(NEW), "upgrade", "--revert", "--accept-loss")
    assert reverted.code == 0, reverted.out
    refused = old.run_version(version(OLD), "backup", "restore", "--yes", later)
    assert (refused.code, refused.error["code"]) == (7, "SCHEMA_NEWER"), refused.out
    assert_serves(old, OLD)
    assert old.rows() == old.before


def _count_users(contents: Contents) -> int:
    return {row.table: row.count for row in contents}['"public"."users"']


@pytest.mark.lifecycle
def test_failed_migration(retained: Old, version: Version) -> None:
    """The error names the backup, which the older version can restore."""
    failed = _install(retained, version(BAD))
    assert (failed.code, failed.error["code"]) == (4, "STATEMENT_FAILED")
    [backup] = retained.path.glob("backups/*")
    assert str(backup) in failed.error["message"]
    restored = retained.run_version(version(OLD), "backup", "restore", "--yes", backup.name)
    assert restored.code == 0, restored.out
    assert_serves(retained, OLD)
    assert retained.rows() == retained.before


@pytest.mark.lifecycle
@pytest.mark.parametrize(
    "point",
    [
        "copy of base created",
        "manifest renamed",
        "gateway launched",
        "gateway asked",
    ],
    ids=["half copied", "copied", "backed up", "migrated"],
)
def test_install_again_after_kill(retained: Old, version: Version, point: str) -> None:
    """The next install completes the migration, and there is one backup, of the retained data."""
    killed = _install(retained, version(NEW), trap=trap_at(point))
    assert killed.code == -signal.SIGKILL, (killed.code, killed.out)
    assert _install(retained, version(NEW)).code == 0
    assert_serves(retained, NEW)
    [backup] = retained.path.glob("backups/*")
    verified = retained.run_version(version(OLD), "backup", "verify", str(backup))
    assert verified.code == 0, verified.out
