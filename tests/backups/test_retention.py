"""Retention rules of backups."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

from hypothesis import given, settings
from hypothesis import strategies as st

from mosaic_gateway_installer.backup.manifest import BackupKind, Manifest
from mosaic_gateway_installer.backup.stored_backups import Backup
from mosaic_gateway_installer.backup.verbs import to_prune

NOW = datetime(2026, 1, 31, tzinfo=UTC)


def _backup(age: int, *, verified: bool) -> Backup:
    at = (NOW - timedelta(days=age)).isoformat()
    manifest = Manifest(
        instance_id="i", created_at=at, version="1", engine="postgres", kind=BackupKind.COLD, files=(),
        verified_at=at if verified else None,
    )  # fmt: skip
    return Backup(Path(f"/b/{age}"), manifest)


@settings(database=None, deadline=None)
@given(st.lists(st.booleans(), max_size=12), st.integers(1, 12), st.none() | st.integers(0, 12))
def test_to_prune(verified: list[bool], keep: int, days: int | None) -> None:
    """Exactly the requested backups are removed, oldest first, and never the last verified one."""
    backups = [_backup(age, verified=good) for age, good in enumerate(verified)]
    limit = timedelta(days=days) if days is not None else None
    pruned = to_prune(backups, keep=keep, older_than=limit, now=NOW)
    assert not set(map(id, pruned)) & set(map(id, backups[:keep]))
    last = next((backup for backup in backups if backup.manifest.verified_at), None)
    assert last not in pruned
    ages = [int(backup.name) for backup in pruned]
    assert ages == sorted(ages, reverse=True)
    assert all(days is None or age > days for age in ages)
    allowed = [b for b in backups[keep:] if b is not last and (days is None or int(b.name) > days)]
    assert len(pruned) == len(allowed)
