"""The values of the migration layer: what ships, what is recorded, what must run. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

__all__ = ["AppliedRow", "LedgerState", "Migration", "Plan", "PlannedMigration", "ProgressRow", "Statement"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Statement:
    """One chunk of a migration file.

    ``number`` counts from 1, ``line`` is the file line on which the chunk's text begins (from 1).
    """

    number: int
    line: int
    sql: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Migration:
    """One journal entry and its file.

    ``when`` is drizzle's time stamp in milliseconds since the epoch: an identifier, never an order.
    ``hash`` is the lower-case hex SHA-256 of the file's bytes, which is drizzle's hash. ``statements`` never change.
    """

    tag: str
    when: int
    hash: str
    statements: Sequence[Statement]


@dataclass(frozen=True, slots=True, kw_only=True)
class AppliedRow:
    """A ledger row: the hash and the ``when`` of a migration that is applied."""

    hash: str
    when: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class ProgressRow:
    """How far one migration came: ``applied`` of ``total`` statements.

    ``prefix`` is the hash of the applied statements' texts (`parse.prefix_hash`), by which an edited
    prefix is told from an edited tail. ``intent`` is the number of a statement outside of transactions of
    which nobody knows yet whether it took effect, ``intent_note`` what was seen before it ran. ``session``
    are the settings that the applied statements left. The ``failed_`` fields describe the last failure.
    """

    tag: str
    hash: str
    applied: int
    total: int
    prefix: str
    intent: int | None = None
    intent_note: Mapping[str, Any] = field(default_factory=dict)
    session: Mapping[str, str] = field(default_factory=dict)
    failed_statement: int | None = None
    failed_sqlstate: str | None = None
    failed_message: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class LedgerState:
    """What a database says of one bundle: its ledger rows, and its progress rows by tag."""

    applied: tuple[AppliedRow, ...] = ()
    progress: Mapping[str, ProgressRow] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class PlannedMigration:
    """A migration to run, from statement ``start`` (0 for a fresh one) to its end.

    ``progress`` is its row, None for a fresh one. ``start_over``: what it did so far was in a session that
    is gone, and only there, so it begins again.
    """

    migration: Migration
    start: int
    progress: ProgressRow | None = None
    start_over: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What must run, in journal order, and how many migrations are applied already."""

    pending: tuple[PlannedMigration, ...]
    applied: int

    @property
    def up_to_date(self) -> bool:
        """Whether nothing has to run."""
        return not self.pending
