"""The verb ``backup create``: backs up data, secrets and settings into a new directory."""

from __future__ import annotations

import os
from pathlib import Path

from mosaic_gateway.cli import NamedFileError, Outcome
from mosaic_gateway.config import load_config
from mosaic_gateway.hint import Text, command
from mosaic_gateway.installation import Home, installed
from mosaic_gateway.process import process_environment
from mosaic_gateway_installer.backup.creation import create_backup
from mosaic_gateway_installer.backup.stored_backups import backups_of, find_backup
from mosaic_gateway_installer.backup.verbs.report import backup_facts, size_text
from mosaic_gateway_installer.backup.verification import verify_backup
from mosaic_gateway_installer.session import session

__all__ = ["create"]


def _check_entry(directory: Path) -> None:
    """Raise NamedFileError if this user has no search permission for *directory* or one of its parents."""
    try:
        denied = directory.is_dir() and not os.access(directory, os.X_OK)
    except PermissionError:
        denied = True
    if denied:
        raise NamedFileError(
            f"permission denied: {directory} (the backup is created as user id {os.geteuid()})",
            hint="Use a directory that every user may enter, such as one below /var/backups: --to DIR",
        )


def create(home: Home, *, directory: Path | None, check: bool) -> Outcome:
    """Back up *home* into *directory* (None: the home's directory of backups); with *check*, verify the backup.

    Raises `NotInstalledError`, `DiskFullError`, `BackupFailedError`, `BackupDamagedError`, BusyError.
    """
    installed(home)
    if directory is not None:
        _check_entry(directory)
    target = directory if directory is not None else backups_of(home)
    with session(home, "backup create") as report:
        receipt = installed(home)
        config = load_config(home, flags={}, environ=process_environment())
        created = create_backup(config, receipt, target, report)
        verified = verify_backup(created, config, report) if check else None
        created = find_backup(home, str(created.path))
    facts = f"{size_text(created.manifest.size)}, {created.manifest.kind}{', verified' if verified else ''}"
    lines: list[Text] = [f"Backed up to {created.path} ({facts})."]
    if verified is None:
        lines.append(
            "To verify it, run: " + command("backup verify", created.name if directory is None else str(created.path))
        )
    return Outcome(result={**backup_facts(created), "verified": verified is not None}, lines=tuple(lines))
