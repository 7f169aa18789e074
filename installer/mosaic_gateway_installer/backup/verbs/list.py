"""backup list: which backups there are; reads only."""

from __future__ import annotations

from pathlib import Path

from mosaic_gateway.cli.envelope import Outcome
from mosaic_gateway.installation.layout import Home
from mosaic_gateway_installer.backup.stored_backups import Backup, backups_of, list_backups
from mosaic_gateway_installer.backup.verbs.report import backup_facts, size_text

__all__ = ["list_"]


def list_(home: Home, *, directory: Path | None) -> Outcome:
    """Return the backups in *directory* (None: those of *home*), newest first, and those that cannot be read."""
    place = directory.expanduser().absolute() if directory is not None else backups_of(home)
    found, broken = list_backups(place)
    lines = [_line(backup) for backup in found] + [f"unreadable: {error.message}" for error in broken]
    return Outcome(
        result={
            "directory": str(place),
            "backups": [backup_facts(backup) for backup in found],
            "unreadable": [error.to_dict() for error in broken],
        },
        lines=tuple(lines) or (f"There is no backup in {place}. Make one: mosaic-gateway backup create",),
    )


def _line(backup: Backup) -> str:
    manifest = backup.manifest
    verified = f"verified {manifest.verified_at}" if manifest.verified_at else "not verified"
    return f"{backup.name}  {manifest.kind:6}  {size_text(manifest.size):>9}  {verified}"
