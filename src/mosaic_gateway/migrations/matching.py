"""Matches the rows of a ledger with the migrations of a bundle. Pure.

Rows are matched as a multiset, because two files may have the same bytes: on hash and name (drizzle 1.0), on hash and
``when``, on hash and second (drizzle-kit 1.0 truncates ``when``), and then on the hash alone. Rows that are left are
matched in the same way with the hashes that the files have with other line endings.
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass

from mosaic_gateway.migrations.folder_layout import folder_name
from mosaic_gateway.migrations.line_endings import variants
from mosaic_gateway.migrations.model import AppliedRow, Migration

__all__ = ["Matches", "drizzle_name", "match", "to_seconds"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Matches:
    """``migrations``: index of a row → index of its migration. ``unmatched`` are the other rows, in their order.

    ``applied`` are the indexes of the applied migrations, ``other_line_endings`` of those that were applied with other
    line endings.
    """

    migrations: Mapping[int, int]
    unmatched: tuple[AppliedRow, ...]
    applied: frozenset[int]
    other_line_endings: frozenset[int]


def match(migrations: Sequence[Migration], rows: Sequence[AppliedRow]) -> Matches:
    """Return which rows are those of which *migrations*.

    A duplicate row of an applied migration matches it: concurrent drizzle runs, which take no lock, leave such rows.
    """
    own = list(enumerate(migrations))
    found: dict[int, int] = {}
    left = dict(enumerate(rows))
    _match(own, left, found)
    exact = frozenset(found.values())
    if left:
        other = [(index, variant) for index, migration in own for variant in variants(migration)]
        _match(other, left, found)
    applied = frozenset(found.values())
    return Matches(
        migrations=found,
        unmatched=tuple(left.values()),
        applied=applied,
        other_line_endings=applied - exact,
    )


def _match(candidates: Sequence[tuple[int, Migration]], left: dict[int, AppliedRow], found: dict[int, int]) -> None:
    """Move from *left* to *found* the rows of *candidates*, which are migrations with their indexes."""
    for identity in (_hash_and_name, _hash_and_when, _hash_and_second, _hash_alone):
        identified = {at: key for at, row in left.items() if (key := identity(row)) is not None}
        if not identified:
            continue
        applied = set(found.values())
        indexes: dict[Hashable, list[int]] = {}
        for index, migration in reversed(candidates):
            if index not in applied:
                indexes.setdefault(identity(migration), []).append(index)
        for at, key in identified.items():
            if indexes.get(key):
                found[at] = indexes[key].pop()
                del left[at]
    known: dict[Hashable, int] = {
        (migration.hash, when): index
        for index, migration in candidates
        for when in (migration.when, to_seconds(migration.when))
    }  # fmt: skip
    for at in [at for at, row in left.items() if _hash_and_when(row) in known]:
        found[at] = known[_hash_and_when(left.pop(at))]


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
