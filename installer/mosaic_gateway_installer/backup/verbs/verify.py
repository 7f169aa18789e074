"""backup verify: a backup is hashed, restored beside the present data, started and compared."""

from __future__ import annotations

from dataclasses import asdict

from mosaic_gateway.cli.envelope import Outcome
from mosaic_gateway.cli.reporter import reporter
from mosaic_gateway.config import load_config, process_environment
from mosaic_gateway.installation.layout import Home
from mosaic_gateway_installer.backup.stored_backups import find_backup
from mosaic_gateway_installer.backup.verbs.report import backup_facts
from mosaic_gateway_installer.backup.verification import verify_backup
from mosaic_gateway_installer.home_lock import home_locked
from mosaic_gateway_installer.receipt import installed
from mosaic_gateway_installer.step_runner import interruptible

__all__ = ["verify"]


def verify(home: Home, name: str) -> Outcome:
    """Verify the backup *name*. Raises `BackupMissingError`, `BackupDamagedError`, `DiskFullError`, BusyError."""
    installed(home)
    backup = find_backup(home, name)
    config = load_config(home, flags={}, environ=process_environment())
    with interruptible(), reporter() as report, home_locked(home, "backup verify"):
        found = verify_backup(backup, config, report)
    compared = (
        f"{found.tables} tables with {found.rows} rows are those of {backup.manifest.created_at}"
        if found.tables is not None
        else f"it starts, with {found.rows} rows"
    )
    checks = f"; {', '.join(found.checks)} found nothing" if found.checks else ""
    return Outcome(
        result={**backup_facts(find_backup(home, str(backup.path))), "verification": asdict(found)},
        lines=(f"{backup.name} is good: {found.files} files as written, {compared}{checks}.",),
    )
