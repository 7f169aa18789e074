"""Verifies a backup: checks all hashes, and does a trial restore beside the present data.

Every file is checked against the manifest. For an online backup or a dump, the restored database must have exactly
the rows of each table, and the schema, that the running database had at the backup's instant. A cold backup was
compared with its source byte by byte at its creation; the trial restore shows that it starts and passes PostgreSQL's
own checks.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import UTC, datetime

from mosaic_gateway.cli import Reporter
from mosaic_gateway.config import Config
from mosaic_gateway.process import disk_full_as
from mosaic_gateway_installer.backup.data_swap import PARTS
from mosaic_gateway_installer.backup.manifest import MANIFEST, write_manifest
from mosaic_gateway_installer.backup.scratch_home import scratch_home
from mosaic_gateway_installer.backup.stored_backups import Backup, damaged
from mosaic_gateway_installer.backup.tree_comparison import FileEntry, hash_files
from mosaic_gateway_installer.backup.trial_restore import TrialRestore

__all__ = ["Verification", "check_files", "verify_backup"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Verification:
    """The numbers of files hashed, tables compared (None for a cold backup) and rows, and PostgreSQL's own checks."""

    files: int
    tables: int | None
    rows: int
    checks: tuple[str, ...]


def check_files(backup: Backup) -> None:
    """Verify every file of *backup* against the manifest. Raises `BackupDamagedError`, OSError."""
    expected = {entry.path: entry for entry in backup.manifest.files}
    actual = {entry.path: entry for entry in hash_files(backup.path, skip=lambda path: path == MANIFEST)}
    wrong = [f"{part} is a link" for part in PARTS if (backup.path / part).is_symlink()]
    wrong += [f"{path} is missing" for path in expected if path not in actual]
    wrong += [f"{path} is unexpected" for path in actual if path not in expected]
    wrong += [
        f"{path} was changed" for path, entry in expected.items() if path in actual and not _same(actual[path], entry)
    ]
    if wrong:
        raise damaged(backup, sorted(wrong))


def _same(actual: FileEntry, expected: FileEntry) -> bool:
    """Return whether two entries are equal; without an expected hash (see `add_missing_hashes`), the sizes decide."""
    return actual == expected or (not expected.sha256 and actual.size == expected.size)


def verify_backup(backup: Backup, config: Config, report: Reporter) -> Verification:
    """Verify *backup* by a trial restore in *config*'s home, and record the success in its manifest.

    The trial restore is always removed. Raises `BackupDamagedError`, `DiskFullError`, `RuntimeMissingError`, OSError.
    """
    report.begin("Verifying the checksums")
    check_files(backup)
    with disk_full_as("the trial restore", config.home.path), scratch_home(config.home) as scratch:
        restored = TrialRestore(backup, config, scratch)
        report.begin("Restoring beside the present data")
        restored.restore()
        report.begin("Starting the restored database and comparing its content")
        tables, checks = restored.compare()
        report.begin("Checking every page")
        checks += restored.check_pages()
    at = datetime.now(UTC).isoformat(timespec="seconds")
    write_manifest(backup.path, replace(backup.manifest, verified_at=at))
    return Verification(
        files=len(backup.manifest.files),
        tables=None if backup.manifest.tables is None else len(backup.manifest.tables),
        rows=sum(rows.count for rows in tables),
        checks=checks,
    )
