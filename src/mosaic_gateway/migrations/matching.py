"""Matches the rows of a ledger with the migrations of a bundle. Pure.

Rows are matched as a multiset, because two files may have the same bytes: on hash and name (drizzle 1.0), on hash and
``when``, on hash and second (drizzle-kit 1.0 truncates ``when``), and then on the hash alone.
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass

from mosaic_gateway.migrations.folder_layout import folder_name
from mosaic_gateway.migrations.model import AppliedRow, Migration

__all__ = ["Matches", "drizzle_name", "match", "to_seconds"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Matches:
    """``migrations``: index of a row → index of its migration. ``unmatched`` are the other rows, in their order."""

    migrations: Mapping[int, int]
    unmatched: tuple[AppliedRow, ...]

    @property
    def applied(self) -> frozenset[int]:
        """The indexes of the applied migrations."""
        return frozenset(self.migrations.values())


def match(migrations: Sequence[Migration], rows: Sequence[AppliedRow]) -> Matches:
    """Return which rows are those of which *migrations*.

    A duplicate row of an applied migration matches it: concurrent drizzle runs, which take no lock, leave such rows.
    """
    found: dict[int, int] = {}
    left = dict(enumerate(rows))
    for identity in (_hash_and_name, _hash_and_when, _hash_and_second, _hash_alone):
        identified = {at: key for at, row in left.items() if (key := identity(row)) is not None}
        if not identified:
            continue
        applied = set(found.values())
        candidates: dict[Hashable, list[int]] = {}
        for index in reversed(range(len(migrations))):
            if index not in applied:
                candidates.setdefault(identity(migrations[index]), []).append(index)
        for at, key in identified.items():
            if indexes := candidates.get(key):
                found[at] = indexes.pop()
                del left[at]
    known: dict[tuple[str, int | None], int] = {
        (migration.hash, when): index
        for index, migration in enumerate(migrations)
        for when in (migration.when, to_seconds(migration.when))
    }  # fmt: skip
    duplicates = {at: known[row.hash, row.when] for at, row in left.items() if (row.hash, row.when) in known}
    unmatched = tuple(row for at, row in left.items() if at not in duplicates)
    return Matches(migrations=found | duplicates, unmatched=unmatched)


def drizzle_name(migration: Migration) -> str:
    """Return drizzle 1.0's name for *migration*.

    Source: drizzle-kit 1.0.0-rc.5, ``planFoldersV3``: ``when`` as a UTC time (14 digits), an underscore, and the part
    of the tag after its first underscore.
    """
    return migration.tag if migration.folder else folder_name(migration.when, migration.tag.partition("_")[2])


def to_seconds(when: int) -> int:
    """Return *when* as drizzle 1.0 writes it: truncated to seconds, in milliseconds."""
    return when // 1000 * 1000


def _hash_and_name(item: Migration | AppliedRow) -> Hashable | None:
    name = drizzle_name(item) if isinstance(item, Migration) else item.name
    return None if name is None else (item.hash, name)


def _hash_and_when(item: Migration | AppliedRow) -> Hashable | None:
    return item.hash, item.when


def _hash_and_second(item: Migration | AppliedRow) -> Hashable | None:
    return None if item.when is None else (item.hash, to_seconds(item.when))


def _hash_alone(item: Migration | AppliedRow) -> Hashable | None:
    return item.hash
