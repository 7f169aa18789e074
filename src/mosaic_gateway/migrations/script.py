"""Composes one message from many groups of statements, each in its own transaction. Pure.

Theory of operation. PostgreSQL runs a simple-protocol message statement by statement and stops at the
first error; explicit BEGIN and COMMIT inside it are honoured. A message of repeated::

    BEGIN; <compare-and-set k → k + n>; [ledger row;] <statement k + 1>; …; <statement k + n>; COMMIT;

therefore saves round trips, and each group (mostly one statement) still commits together with its own progress. The
server scans the message as a whole, so only chunks that end outside of quotes and comments may share one
(`statement_traits.StatementTraits.plain`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from mosaic_gateway.migrations.groups import Group, divide
from mosaic_gateway.migrations.model import Migration, PlannedMigration, Statement
from mosaic_gateway.migrations.parse import prefix_hashes, statement_digests
from mosaic_gateway.migrations.quoting import quote_name, quote_text

__all__ = [
    "PREPARE",
    "PREPARED",
    "GroupBatch",
    "GroupTask",
    "TransactionTemplate",
    "compose",
    "execute",
    "remaining_tasks",
]

PREPARED = "mosaic_advance"
PREPARE = f"PREPARE {PREPARED} (text, text, text, int, int, text, text, text, int) AS "
#: Around the text of a group that may be read-only: the subtransaction ends before the records after it are written.
SUBTRANSACTION = "SAVEPOINT mosaic_group;"
SUBTRANSACTION_END = "RELEASE SAVEPOINT mosaic_group;"
READ_ONLY = "SET TRANSACTION READ ONLY;"


@dataclass(frozen=True, slots=True, kw_only=True)
class GroupTask:
    """One group of ``migration`` to run, with the prefix hashes ``before`` and ``after`` it.

    ``captures``: the session's settings are saved with the progress. ``role``: the role that earlier statements
    set; the group runs under it, while progress and ledger are written as the session user.
    """

    migration: Migration
    group: Group
    before: str
    after: str
    digests: str
    captures: bool = False
    role: str | None = None

    @property
    def statement(self) -> Statement:
        """The first statement of the group."""
        return self.group.statements[0]

    @property
    def text(self) -> str:
        """The text of the first statement as it is sent."""
        return self.group.texts[0]

    @property
    def last(self) -> bool:
        """Whether it is the last group of its migration."""
        return self.group.last == len(self.migration.statements)

    def statement_of(self, commands: int) -> Statement | None:
        """Return the statement that was running after *commands* of the group's transaction had succeeded.

        They are counted from the compare-and-set; None: the transaction was at its end.
        """
        added = (self.last, self.role is not None, self.group.may_be_read_only, bool(self.group.modes.read_only))
        done = commands - sum(added)
        for statement, count in zip(self.group.statements, self.group.commands, strict=True):
            done -= count
            if done < 0:
                return statement
        return None


@dataclass(frozen=True, slots=True)
class GroupBatch:
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
    """The SQL that surrounds each group in its transaction.

    ``settings`` follows BEGIN. ``advance`` returns the compare-and-set for nine values (SQL expressions), ``record``
    the INSERT of the ledger row, ``capture`` the statement that saves the session's settings.
    """

    ledger_key: str
    settings: str
    advance: Callable[[Sequence[str]], str]
    record: Callable[[Migration], str]
    capture: Callable[[GroupTask], str]


def remaining_tasks(planned: PlannedMigration, *, deferring: int | None = None) -> Iterator[GroupTask]:
    """Yield the groups of *planned* that are left to run; *deferring* as in `groups.divide`."""
    migration = planned.migration
    hashes = prefix_hashes(migration.statements)
    digests = statement_digests(migration.statements)
    captures = False
    for group in divide(migration.statements, deferring=deferring):
        captures = captures or any(traits.captures for traits in group.traits)
        if group.first > planned.start:
            yield GroupTask(
                migration=migration,
                group=group,
                before=hashes[group.first - 1],
                after=hashes[group.last],
                digests=digests,
                # What is not closed fails, and would swallow the capture.
                captures=captures and all(traits.closed for traits in group.traits),
            )


def compose(work: Sequence[GroupTask], template: TransactionTemplate) -> GroupBatch:
    """Return the message that runs *work*, each group in a transaction from *template*."""
    parts: list[str] = []
    starts: list[int] = []
    ends: list[int] = []
    length = 0

    def add(*texts: str) -> None:
        nonlocal length
        parts.extend(texts)
        length += sum(map(len, texts))

    for index, item in enumerate(work):
        add(*_before(item, template))
        for text in item.group.texts:
            starts.append(length)
            add(text)
            ends.append(length)
            add("\n;")
        if item.group.may_be_read_only:
            add(SUBTRANSACTION_END)
        if item.captures:
            add(template.capture(item))
        # After the capture, which would otherwise save it as a setting of the migration.
        if index == len(work) - 1 and any(other.last for other in work):
            add("SET LOCAL synchronous_commit = on;")
        add("COMMIT;")
    return GroupBatch("".join(parts), tuple(starts), tuple(ends))


def _before(item: GroupTask, template: TransactionTemplate) -> Iterator[str]:
    """Yield the SQL before the text of a group."""
    yield _begin(item)
    yield template.settings
    if item.role is not None:
        yield "SET LOCAL ROLE NONE;"
    yield template.advance(_values(item, template.ledger_key))
    if item.last:
        yield template.record(item.migration)
    if item.role is not None:
        yield f"SET LOCAL ROLE {quote_name(item.role)};"
    if item.group.may_be_read_only:
        yield SUBTRANSACTION
    if item.group.modes.read_only:
        yield READ_ONLY


def _begin(item: GroupTask) -> str:
    """Return the BEGIN of a group; it is read-only only after its records are written."""
    modes = item.group.modes
    deferrable = " DEFERRABLE" if modes.deferrable else ""
    return f"BEGIN ISOLATION LEVEL {modes.isolation or 'READ COMMITTED'} READ WRITE{deferrable};"


def execute(values: Sequence[str]) -> str:
    """Return the compare-and-set with *values* as an EXECUTE of the statement prepared by `PREPARE`."""
    return f"EXECUTE {PREPARED}({', '.join(values)});"


def _values(item: GroupTask, ledger_key: str) -> tuple[str, ...]:
    migration = item.migration
    texts = (ledger_key, migration.tag, migration.hash)
    numbers = (item.group.first - 1, len(migration.statements))
    hashes = (item.before, item.after, item.digests)
    count = len(item.group.statements)
    return (*map(quote_text, texts), *map(str, numbers), *map(quote_text, hashes), str(count))
