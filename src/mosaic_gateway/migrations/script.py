"""Many statements as one message, each in a transaction of its own. Pure.

Theory of operation. PostgreSQL runs a simple-protocol message statement by statement and stops at the
first error; explicit BEGIN and COMMIT inside of it are honoured. So a row of::

    BEGIN; <compare-and-set k → k + 1>; <statement k + 1>; [ledger row;] COMMIT;

saves the round trips between them and changes nothing else: each statement still commits with its own
progress. The message's text is scanned as a whole, so only chunks that end outside of quotes and
comments share one (`traits.Traits.plain`).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from mosaic_gateway.migrations.model import Migration, Statement

__all__ = ["PREPARE", "PREPARED", "Script", "Work", "compose"]

PREPARED = "mosaic_advance"
PREPARE = f"PREPARE {PREPARED} (text, text, text, int, int, text, text, text) AS "
BEGIN = "BEGIN ISOLATION LEVEL READ COMMITTED READ WRITE;"


@dataclass(frozen=True, slots=True, kw_only=True)
class Work:
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
class Script:
    """A message, and where in it (in characters) each statement's own text begins."""

    text: str
    starts: tuple[int, ...]

    def locate(self, position: int) -> tuple[int, int]:
        """Return which statement a position (from 1) of the message is in, and the position in its text."""
        index = max((i for i, start in enumerate(self.starts) if start < position), default=0)
        return index, position - self.starts[index]


def compose(
    work: Sequence[Work], ledger_key: str, record: Callable[[Migration], str], capture: Callable[[Work], str]
) -> Script:
    """Return the message for *work*. *record* gives the SQL of a ledger row, *capture* that of the settings."""
    parts: list[str] = []
    starts: list[int] = []
    length = 0

    def add(text: str) -> None:
        nonlocal length
        parts.append(text)
        length += len(text)

    for index, item in enumerate(work):
        add(BEGIN)
        if item.role is not None:
            add("SET LOCAL ROLE NONE;")
        add(_advance(item, ledger_key))
        if item.last:
            add(record(item.migration))
        if index == len(work) - 1 and any(other.last for other in work):
            add("SET LOCAL synchronous_commit = on;")
        if item.role is not None:
            add(f"SET LOCAL ROLE {quote_name(item.role)};")
        starts.append(length)
        add(f"{item.statement.sql}\n;")
        if item.captures:
            add(capture(item))
        add("COMMIT;")
    return Script("".join(parts), tuple(starts))


def _advance(item: Work, ledger_key: str) -> str:
    migration = item.migration
    texts = (ledger_key, migration.tag, migration.hash)
    numbers = (item.statement.number - 1, len(migration.statements))
    hashes = (item.before, item.after, item.digests)
    values = (*map(quote_text, texts), *map(str, numbers), *map(quote_text, hashes))
    return f"EXECUTE {PREPARED}({', '.join(values)});"


def quote_text(value: str) -> str:
    """Return *value* as an SQL text, whatever ``standard_conforming_strings`` says."""
    if "\\" in value:
        return " E'" + value.replace("\\", "\\\\").replace("'", "''") + "'"
    return "'" + value.replace("'", "''") + "'"


def quote_name(value: str) -> str:
    """Return *value* as a quoted SQL name."""
    return '"' + value.replace('"', '""') + '"'
