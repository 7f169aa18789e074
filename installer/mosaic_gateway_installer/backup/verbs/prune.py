"""The verb ``backup prune``: removes old backups, never the last verified one."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from mosaic_gateway import fs
from mosaic_gateway.cli import Outcome
from mosaic_gateway.installation import Home, installed
from mosaic_gateway_installer.backup.retention import to_prune
from mosaic_gateway_installer.backup.stored_backups import backups_of, list_backups
from mosaic_gateway_installer.backup.verbs.report import backup_facts
from mosaic_gateway_installer.session import session

__all__ = ["prune"]


def prune(home: Home, *, keep: int, older_than: int | None, dry_run: bool) -> Outcome:
    """Remove the backups of *home* beyond the newest *keep* that are older than *older_than* days.

    Backups that cannot be read are not removed. Raises `NotInstalledError`, BusyError, `RemovalIncompleteError`,
    OSError.
    """
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
        lines=(f"{verb} {len(pruned)} backup(s); {retained} {'would be ' if dry_run else ''}retained.",),
    )
