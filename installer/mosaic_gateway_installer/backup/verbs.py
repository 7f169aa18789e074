"""The verbs ``backup create``, ``list``, ``verify`` and ``prune``, and the description of a backup in their results.

``prune`` never removes the last verified backup.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import asdict
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from mosaic_gateway import fs
from mosaic_gateway.cli import NamedFileError, Outcome
from mosaic_gateway.config import load_config
from mosaic_gateway.hint import Text, command
from mosaic_gateway.installation import Home, installed
from mosaic_gateway.process import process_environment
from mosaic_gateway_installer.backup.stored_backups import (
    Backup,
    BackupMissingError,
    backups_of,
    find_backup,
    list_backups,
)

__all__ = ["backup_facts", "create", "list_", "prune", "size_text", "to_prune", "verify"]


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
    from mosaic_gateway_installer.backup.creation import create_backup
    from mosaic_gateway_installer.backup.verification import verify_backup
    from mosaic_gateway_installer.session import session

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


def list_(home: Home, *, directory: Path | None) -> Outcome:
    """List the backups in *directory* (None: those of *home*), newest first, and those that cannot be read.

    Raises `NotInstalledError`, `BackupMissingError`.
    """
    if directory is None:
        installed(home)
        directory = backups_of(home)
    elif not directory.is_dir():
        raise BackupMissingError(f"there is no directory {directory}", hint="Give the directory of the backups.")
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
    tag = f"  {manifest.tag}" if manifest.tag else ""
    return f"{backup.name}  {manifest.kind:6}  {size_text(manifest.size):>9}  {verified}{tag}"


def verify(home: Home, name: str) -> Outcome:
    """Verify the backup *name*. Raises `BackupMissingError`, `BackupDamagedError`, `DiskFullError`, BusyError."""
    from mosaic_gateway_installer.backup.verification import verify_backup
    from mosaic_gateway_installer.session import session

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


def prune(home: Home, *, keep: int, older_than: int | None, dry_run: bool) -> Outcome:
    """Remove the backups of *home* beyond the newest *keep* that are older than *older_than* days.

    Backups that cannot be read are not removed. Raises `NotInstalledError`, BusyError, `RemovalIncompleteError`,
    OSError.
    """
    from mosaic_gateway_installer.session import session

    installed(home)
    directory = backups_of(home)
    backups, _ = list_backups(directory)
    limit = timedelta(days=older_than) if older_than is not None else None
    pruned = to_prune(backups, keep=keep, older_than=limit, now=datetime.now(UTC))
    if not dry_run:
        with session(home, "backup prune") as report:
            for path in fs.temporaries(directory):
                fs.remove_tree(path, strict=True)
            for backup in pruned:
                fs.require_erased(fs.erase([backup.path]))
                report.done(f"Removed {backup.path}")
    verb = "Would remove" if dry_run else "Removed"
    retained = len(backups) - len(pruned)
    return Outcome(
        result={"dry_run": dry_run, "removed": [backup_facts(backup) for backup in pruned], "retained": retained},
        lines=(
            *(f"{verb} {backup.name}" for backup in pruned),
            f"{verb} {len(pruned)}, {'would retain' if dry_run else 'retained'} {retained} of {len(backups)} backups.",
        ),
    )


def to_prune(
    backups: Sequence[Backup], *, keep: int, older_than: timedelta | None, now: datetime
) -> tuple[Backup, ...]:
    """Return those of *backups* (newest first) that may be removed, oldest first.

    The newest *keep* are retained (at least one), with *older_than* also all younger ones, and always the newest
    verified one.
    """
    verified = next((backup for backup in backups if backup.manifest.verified_at is not None), None)
    retained = {id(backup) for backup in backups[: max(keep, 1)]} | {id(verified)}
    return tuple(
        backup
        for backup in reversed(backups)
        if id(backup) not in retained
        and (older_than is None or now - datetime.fromisoformat(backup.manifest.created_at) > older_than)
    )


def backup_facts(backup: Backup) -> dict[str, Any]:
    """Return the JSON object that describes *backup*."""
    manifest = backup.manifest
    return {
        "name": backup.name,
        "path": str(backup.path),
        "kind": str(manifest.kind),
        "engine": manifest.engine,
        "instance_id": manifest.instance_id,
        "version": manifest.version,
        "server_version": manifest.server_version,
        "created_at": manifest.created_at,
        "verified_at": manifest.verified_at,
        "tag": manifest.tag,
        "size": manifest.size,
        "files": len(manifest.files),
    }


def size_text(size: int) -> str:
    """Return *size* in bytes as a text in MB or GB."""
    return f"{size / 1e9:.1f} GB" if size >= 1e9 else f"{max(size, 1) / 1e6:.1f} MB"  # noqa: PLR2004 - a unit
