"""Many statements as one message, each in a transaction of its own. Pure.

Theory of operation. PostgreSQL runs a simple-protocol message statement by statement and stops at the
first error; explicit BEGIN and COMMIT inside of it are honoured. So a row of::

    BEGIN; <compare-and-set k → k + 1>; <statement k + 1>; [ledger row;] COMMIT;

saves the round trips between them and changes nothing else: each statement still commits with its own
progress. The message's text is scanned as a whole, so only chunks that end outside of quotes and
comments share one (`traits.StatementTraits.plain`).
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
    "Phrases",
    "StatementBatch",
    "StatementTask",
    "compose",
    "execute",
    "quote_name",
    "quote_text",
    "works_of",
]

PREPARED = "mosaic_advance"
PREPARE = f"PREPARE {PREPARED} (text, text, text, int, int, text, text, text) AS "
BEGIN = "BEGIN ISOLATION LEVEL READ COMMITTED READ WRITE;"


@dataclass(frozen=True, slots=True, kw_only=True)
class StatementTask:
    """One statement to run: of ``migration``, with the prefix hashes ``before`` and ``after`` it.

    ``captures``: the session's settings are kept with the progress. ``role``: the role that earlier
    statements chose, under which the statement runs while the records are written without it.
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
    """A message, and where in it (in characters) each statement's own text begins and ends."""

    text: str
    starts: tuple[int, ...]
    ends: tuple[int, ...]

    def locate(self, position: int) -> tuple[int, int] | None:
        """Return which statement a position (from 1) of the message is in, and the position in its text.

        None where it is in what is ours. The end of a statement's text, where one is missing, counts as its own.
        """
        for index, (start, end) in enumerate(zip(self.starts, self.ends, strict=True)):
            if start < position <= end + 2:
                return index, min(position, end + 1) - start
        return None


@dataclass(frozen=True, slots=True, kw_only=True)
class Phrases:
    """The SQL around the statements.

    ``settings`` begins each transaction. ``advance`` gives the compare-and-set of eight values, as SQL texts;
    ``record`` the ledger row, ``capture`` what keeps the session's settings.
    """

    ledger_key: str
    settings: str
    advance: Callable[[Sequence[str]], str]
    record: Callable[[Migration], str]
    capture: Callable[[StatementTask], str]


def works_of(planned: PlannedMigration) -> Iterator[StatementTask]:
    """Return what is left to do of *planned*, statement by statement."""
    migration = planned.migration
    hashes = prefix_hashes(migration.statements)
    digests = statement_digests(migration.statements)
    captures = False
    for number, statement in enumerate(migration.statements):
        captures = captures or traits_of(statement.sql).captures
        if number >= planned.start:
            yield StatementTask(
                migration=migration,
                statement=statement,
                before=hashes[number],
                after=hashes[number + 1],
                digests=digests,
                captures=captures,
            )


def compose(work: Sequence[StatementTask], phrases: Phrases) -> StatementBatch:
    """Return the message for *work*."""
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
        add(phrases.settings)
        if item.role is not None:
            add("SET LOCAL ROLE NONE;")
        add(phrases.advance(_values(item, phrases.ledger_key)))
        if item.last:
            add(phrases.record(item.migration))
        if item.role is not None:
            add(f"SET LOCAL ROLE {quote_name(item.role)};")
        starts.append(length)
        add(item.statement.sql)
        ends.append(length)
        add("\n;")
        if item.captures:
            add(phrases.capture(item))
        # After the capture, which would take it for a setting of the migration's.
        if index == len(work) - 1 and any(other.last for other in work):
            add("SET LOCAL synchronous_commit = on;")
        add("COMMIT;")
    return StatementBatch("".join(parts), tuple(starts), tuple(ends))


def execute(values: Sequence[str]) -> str:
    """Return the compare-and-set of *values* by the statement that `PREPARE` made."""
    return f"EXECUTE {PREPARED}({', '.join(values)});"


def _values(item: StatementTask, ledger_key: str) -> tuple[str, ...]:
    migration = item.migration
    texts = (ledger_key, migration.tag, migration.hash)
    numbers = (item.statement.number - 1, len(migration.statements))
    hashes = (item.before, item.after, item.digests)
    return (*map(quote_text, texts), *map(str, numbers), *map(quote_text, hashes))


def quote_text(value: str) -> str:
    """Return *value* as an SQL text, whatever ``standard_conforming_strings`` says."""
    if "\\" in value:
        return " E'" + value.replace("\\", "\\\\").replace("'", "''") + "'"
    return "'" + value.replace("'", "''") + "'"


def quote_name(value: str) -> str:
    """Return *value* as a quoted SQL name."""
    return '"' + value.replace('"', '""') + '"'
