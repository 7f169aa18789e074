"""Retention rules of backups. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta

from mosaic_gateway_installer.backup.stored_backups import Backup

__all__ = ["to_prune"]


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
