"""Value classes of the migration layer: shipped migrations, recorded state, plans, and results of runs. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

__all__ = [
    "AppliedRow",
    "LedgerState",
    "Migration",
    "MigrationReport",
    "Plan",
    "PlannedMigration",
    "ProgressRow",
    "Statement",
]


@dataclass(frozen=True, slots=True, kw_only=True)
class Statement:
    """One chunk of a migration file.

    ``number`` counts from 1; ``line`` is the line of the file on which the chunk's text begins (from 1).
    """

    number: int
    line: int
    sql: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Migration:
    """One journal entry and its file, or a ``folder`` of drizzle-kit 1.0's layout, named ``tag``.

    ``when`` is drizzle's timestamp in milliseconds since the epoch; it identifies a migration and does not order it.
    ``hash`` is the lower-case hex SHA-256 of the file's bytes ``content``, as drizzle computes it. ``statements`` are
    immutable.
    """

    tag: str
    when: int
    hash: str
    statements: Sequence[Statement]
    folder: bool = False
    content: bytes = field(default=b"", repr=False, compare=False)

    @property
    def file(self) -> str:
        """The POSIX name of its SQL file."""
        return f"{self.tag}/migration.sql" if self.folder else f"{self.tag}.sql"


@dataclass(frozen=True, slots=True, kw_only=True)
class AppliedRow:
    """A ledger row: the hash and ``when`` of an applied migration, and in drizzle 1.0's ledger its name."""

    hash: str
    when: int | None
    name: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ProgressRow:
    """Progress of one migration: ``applied`` of ``total`` statements.

    ``prefix`` is the hash of the applied statements' texts (`parse.prefix_hash`): it distinguishes an edited prefix
    from an edited tail. ``intent`` is the number of a nontransactional statement that was started and not yet recorded
    as applied; ``intent_note`` is the state observed before it ran. ``session`` holds the settings that the applied
    statements left. The ``failed_`` fields describe the last failure.
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
    """The state of a database for one bundle: its ledger rows, and its progress rows by tag."""

    applied: tuple[AppliedRow, ...] = ()
    progress: Mapping[str, ProgressRow] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class PlannedMigration:
    """A migration to run, from statement index ``start`` (0 for a new one) to its end.

    ``progress`` is its row, None for a new one. ``start_over``: everything that it records as applied from ``start`` on
    affected only a session or a transaction that has ended, so it runs again.
    """

    migration: Migration
    start: int
    progress: ProgressRow | None = None
    start_over: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """The migrations to run, in journal order, and the number of migrations already applied.

    ``other_line_endings`` are the tags of those that were applied with LF where their file has CRLF, or vice versa.
    """

    pending: tuple[PlannedMigration, ...]
    applied: int
    other_line_endings: tuple[str, ...] = ()

    @property
    def up_to_date(self) -> bool:
        """Whether no migration is pending."""
        return not self.pending


@dataclass(frozen=True, slots=True, kw_only=True)
class MigrationReport:
    """Result of a run: the tags that it applied, in order, and the number of those applied before.

    ``other_line_endings`` are the tags of those applied before whose file had other line endings then.
    """

    bundle: str
    applied: tuple[str, ...]
    already_applied: int
    other_line_endings: tuple[str, ...] = ()
