"""The verb ``backup list``: lists the backups. Reads only."""

from __future__ import annotations

from pathlib import Path

from mosaic_gateway.cli import Outcome
from mosaic_gateway.hint import command
from mosaic_gateway.installation import Home
from mosaic_gateway_installer.backup.stored_backups import Backup, backups_of, list_backups
from mosaic_gateway_installer.backup.verbs.report import backup_facts, size_text

__all__ = ["list_"]


def list_(home: Home, *, directory: Path | None) -> Outcome:
    """List the backups in *directory* (None: those of *home*), newest first, and those that cannot be read."""
    directory = directory.expanduser().absolute() if directory is not None else backups_of(home)
    backups, errors = list_backups(directory)
    lines = [_line(backup) for backup in backups] + [f"unreadable: {error.message}" for error in errors]
    return Outcome(
        result={
            "directory": str(directory),
            "backups": [backup_facts(backup) for backup in backups],
            "unreadable": [error.to_dict() for error in errors],
        },
        lines=tuple(lines) or (f"There is no backup in {directory}. Create one: " + command("backup create"),),
    )


def _line(backup: Backup) -> str:
    manifest = backup.manifest
    verified = f"verified {manifest.verified_at}" if manifest.verified_at else "not verified"
    return f"{backup.name}  {manifest.kind:6}  {size_text(manifest.size):>9}  {verified}"
