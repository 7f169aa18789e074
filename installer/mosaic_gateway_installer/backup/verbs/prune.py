"""backup prune: old backups go, never the last verified one."""

from __future__ import annotations

import secrets
from datetime import UTC, datetime, timedelta

from mosaic_gateway.cli.envelope import Outcome
from mosaic_gateway.cli.reporter import reporter
from mosaic_gateway.fs.files import remove_path
from mosaic_gateway.installation.layout import Home
from mosaic_gateway_installer.backup.retention import to_prune
from mosaic_gateway_installer.backup.stored_backups import backups_of, leftovers, list_backups
from mosaic_gateway_installer.backup.verbs.report import backup_facts
from mosaic_gateway_installer.home_lock import home_locked
from mosaic_gateway_installer.receipt import installed

__all__ = ["prune"]


def prune(home: Home, *, keep: int, older_than: int | None, dry_run: bool) -> Outcome:
    """Remove the backups of *home* beyond the newest *keep* that are older than *older_than* days.

    What cannot be read is left alone: nobody knows what it is. Raises `NotInstalledError`, BusyError, OSError.
    """
    installed(home)
    directory = backups_of(home)
    found, _ = list_backups(directory)
    limit = timedelta(days=older_than) if older_than is not None else None
    going = to_prune(found, keep=keep, older_than=limit, now=datetime.now(UTC))
    if not dry_run:
        with reporter() as report, home_locked(home, "backup prune"):
            for path in leftovers(directory):
                remove_path(path)
            for backup in going:
                # Under such a name it is no backup any more, and the next command removes what is left of it.
                going_away = backup.path.with_name(f".{backup.name}.{secrets.token_hex(4)}.tmp")
                backup.path.rename(going_away)
                remove_path(going_away)
                report.done(f"Removed {backup.path}")
    verb = "Would remove" if dry_run else "Removed"
    retained = len(found) - len(going)
    return Outcome(
        result={"dry_run": dry_run, "removed": [backup_facts(backup) for backup in going], "kept": retained},
        lines=(f"{verb} {len(going)} backup(s); {retained} {'would stay' if dry_run else 'stay'}.",),
    )
