"""Which backups may go. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta

from mosaic_gateway_installer.backup.stored_backups import Backup

__all__ = ["to_prune"]


def to_prune(
    backups: Sequence[Backup], *, keep: int, older_than: timedelta | None, now: datetime
) -> tuple[Backup, ...]:
    """Return those of *backups* (newest first) that may go, oldest first.

    The newest *keep* stay, and with *older_than* all that are younger. The newest one that was verified
    always stays; where none was, all stay but those beyond the newest one could still lose everything, so the newest
    stays too.
    """
    verified = next((backup for backup in backups if backup.manifest.verified_at is not None), None)
    spared = {id(backup) for backup in backups[: max(keep, 1)]} | {id(verified)}
    return tuple(
        backup
        for backup in reversed(backups)
        if id(backup) not in spared
        and (older_than is None or now - datetime.fromisoformat(backup.manifest.created_at) > older_than)
    )
