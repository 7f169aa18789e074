"""A migration's file with other line endings. Pure.

git may check a file out with CRLF on one machine and with LF on another (``core.autocrlf``), so that drizzle's hash of
the same file differs. This module is the only place that decides which other bytes count as the same file.
"""

from __future__ import annotations

from dataclasses import replace

from mosaic_gateway.migrations.model import Migration, ProgressRow
from mosaic_gateway.migrations.parse import Statements, file_hash, prefix_hash

__all__ = ["as_begun", "variants"]


def variants(migration: Migration) -> tuple[Migration, ...]:
    """Return *migration* with LF and with CRLF at the ends of all lines, without that which its file has."""
    unix = migration.content.replace(b"\r\n", b"\n")
    return tuple(
        replace(migration, content=content, hash=file_hash(content), statements=Statements(content.decode()))
        for content in dict.fromkeys((unix, unix.replace(b"\n", b"\r\n")))
        if content != migration.content
    )


def as_begun(migration: Migration, progress: ProgressRow | None) -> Migration:
    """Return *migration* with the line endings with which it was half applied according to *progress*, or as it is."""
    if progress is None or progress.applied == 0:
        return migration
    begun = (
        one
        for one in (migration, *variants(migration))
        if prefix_hash(one.statements, progress.applied) == progress.prefix
    )
    return next(begun, migration)
