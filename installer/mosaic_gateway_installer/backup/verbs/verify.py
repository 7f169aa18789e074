"""The verb ``backup verify``: verifies a backup's checksums, and its content by a trial restore."""

from __future__ import annotations

from dataclasses import asdict

from mosaic_gateway.cli import Outcome
from mosaic_gateway.config import load_config
from mosaic_gateway.installation import Home, installed
from mosaic_gateway.process import process_environment
from mosaic_gateway_installer.backup.stored_backups import find_backup
from mosaic_gateway_installer.backup.verbs.report import backup_facts
from mosaic_gateway_installer.backup.verification import verify_backup
from mosaic_gateway_installer.session import session

__all__ = ["verify"]


def verify(home: Home, name: str) -> Outcome:
    """Verify the backup *name*. Raises `BackupMissingError`, `BackupDamagedError`, `DiskFullError`, BusyError."""
    installed(home)
    backup = find_backup(home, name)
    config = load_config(home, flags={}, environ=process_environment())
    with session(home, "backup verify") as report:
        result = verify_backup(backup, config, report)
    content = (
        f"{result.tables} tables with {result.rows} rows are as at {backup.manifest.created_at}"
        if result.tables is not None
        else f"the database starts and has {result.rows} rows"
    )
    checks = f"; {', '.join(result.checks)} reported no errors" if result.checks else ""
    return Outcome(
        result={**backup_facts(find_backup(home, str(backup.path))), "verification": asdict(result)},
        lines=(f"{backup.name} is valid: {result.files} files are unchanged; {content}{checks}.",),
    )
