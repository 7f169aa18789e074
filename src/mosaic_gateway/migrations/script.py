"""Composes one message from many statements, each in its own transaction. Pure.

Theory of operation. PostgreSQL runs a simple-protocol message statement by statement and stops at the
first error; explicit BEGIN and COMMIT inside it are honoured. A message of repeated::

    BEGIN; <compare-and-set k → k + 1>; [ledger row;] <statement k + 1>; COMMIT;

therefore saves round trips, and each statement still commits together with its own progress. The server
scans the message as a whole, so only chunks that end outside of quotes and comments may share one
(`statement_traits.StatementTraits.plain`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from mosaic_gateway.migrations.model import Migration, PlannedMigration, Statement
from mosaic_gateway.migrations.parse import prefix_hashes, statement_digests
from mosaic_gateway.migrations.statement_traits import traits_of

__all__ = [
    "PREPARE",
    "PREPARED",
    "StatementBatch",
    "StatementTask",
    "TransactionTemplate",
    "compose",
    "execute",
    "quote_name",
    "quote_text",
    "remaining_tasks",
]

PREPARED = "mosaic_advance"
PREPARE = f"PREPARE {PREPARED} (text, text, text, int, int, text, text, text) AS "
BEGIN = "BEGIN ISOLATION LEVEL READ COMMITTED READ WRITE;"


@dataclass(frozen=True, slots=True, kw_only=True)
class StatementTask:
    """One statement of ``migration`` to run, with the prefix hashes ``before`` and ``after`` it.

    ``captures``: the session's settings are saved with the progress. ``role``: the role that earlier statements
    set; the statement runs under it, while progress and ledger are written as the session user.
    """

    migration: Migration
    statement: Statement
    before: str
    after: str
    digests: str
    captures: bool = False
    role: str | None = None

    @property
    def last(self) -> bool:
        """Whether it is the last statement of its migration."""
        return self.statement.number == len(self.migration.statements)


@dataclass(frozen=True, slots=True)
class StatementBatch:
    """A message, and the offsets in it (in characters) at which each statement's own text begins and ends."""

    text: str
    starts: tuple[int, ...]
    ends: tuple[int, ...]

    def locate(self, position: int) -> tuple[int, int] | None:
        """Return the index of the statement that contains *position* (from 1) of the message, and the position in it.

        None if the position is in SQL added by the runner. The position just after a statement belongs to it:
        PostgreSQL reports "syntax error at end of input" there.
        """
        for index, (start, end) in enumerate(zip(self.starts, self.ends, strict=True)):
            if start < position <= end + 2:
                return index, min(position, end + 1) - start
        return None


@dataclass(frozen=True, slots=True, kw_only=True)
class TransactionTemplate:
    """The SQL that surrounds each statement in its transaction.

    ``settings`` follows BEGIN. ``advance`` returns the compare-and-set for eight values (SQL expressions), ``record``
    the INSERT of the ledger row, ``capture`` the statement that saves the session's settings.
    """

    ledger_key: str
    settings: str
    advance: Callable[[Sequence[str]], str]
    record: Callable[[Migration], str]
    capture: Callable[[StatementTask], str]


def remaining_tasks(planned: PlannedMigration) -> Iterator[StatementTask]:
    """Yield the statements of *planned* that are left to run."""
    migration = planned.migration
    hashes = prefix_hashes(migration.statements)
    digests = statement_digests(migration.statements)
    captures = False
    for number, statement in enumerate(migration.statements):
        traits = traits_of(statement.sql)
        captures = captures or traits.captures
        if number >= planned.start:
            yield StatementTask(
                migration=migration,
                statement=statement,
                before=hashes[number],
                after=hashes[number + 1],
                digests=digests,
                captures=captures and traits.closed,  # what is not closed fails, and would swallow the capture
            )


def compose(work: Sequence[StatementTask], template: TransactionTemplate) -> StatementBatch:
    """Return the message that runs *work*, each statement in a transaction from *template*."""
    parts: list[str] = []
    starts: list[int] = []
    ends: list[int] = []
    length = 0

    def add(text: str) -> None:
        nonlocal length
        parts.append(text)
        length += len(text)

    for index, item in enumerate(work):
        add(BEGIN)
        add(template.settings)
        if item.role is not None:
            add("SET LOCAL ROLE NONE;")
        add(template.advance(_values(item, template.ledger_key)))
        if item.last:
            add(template.record(item.migration))
        if item.role is not None:
            add(f"SET LOCAL ROLE {quote_name(item.role)};")
        starts.append(length)
        add(item.statement.sql)
        ends.append(length)
        add("\n;")
        if item.captures:
            add(template.capture(item))
        # After the capture, which would otherwise save it as a setting of the migration.
        if index == len(work) - 1 and any(other.last for other in work):
            add("SET LOCAL synchronous_commit = on;")
        add("COMMIT;")
    return StatementBatch("".join(parts), tuple(starts), tuple(ends))


def execute(values: Sequence[str]) -> str:
    """Return the compare-and-set with *values* as an EXECUTE of the statement prepared by `PREPARE`."""
    return f"EXECUTE {PREPARED}({', '.join(values)});"


def _values(item: StatementTask, ledger_key: str) -> tuple[str, ...]:
    migration = item.migration
    texts = (ledger_key, migration.tag, migration.hash)
    numbers = (item.statement.number - 1, len(migration.statements))
    hashes = (item.before, item.after, item.digests)
    return (*map(quote_text, texts), *map(str, numbers), *map(quote_text, hashes))


def quote_text(value: str) -> str:
    """Return *value* as an SQL string constant, correct for either value of ``standard_conforming_strings``."""
    if "\\" in value:
        return " E'" + value.replace("\\", "\\\\").replace("'", "''") + "'"
    return "'" + value.replace("'", "''") + "'"


def quote_name(value: str) -> str:
    """Return *value* as a quoted SQL identifier."""
    return '"' + value.replace('"', '""') + '"'
