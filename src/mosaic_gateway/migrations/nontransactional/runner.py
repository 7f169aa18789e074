"""One statement outside of transactions: intent → statement → done, and what an earlier run left of one.

The intent is flushed to disk before the statement runs: some of these statements change more than what
the log of the database orders. Locks are waited for without a limit, because a limit would leave an
invalid index; the migration lock keeps rivals away.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, LiteralString

import psycopg

from mosaic_gateway.errors import BusyError
from mosaic_gateway.migrations import progress
from mosaic_gateway.migrations.bundle import LedgerName
from mosaic_gateway.migrations.nontransactional import statements
from mosaic_gateway.migrations.nontransactional.statements import ProbeResult, StatementKind
from mosaic_gateway.migrations.progress import FencedError
from mosaic_gateway.migrations.script import StatementTask
from mosaic_gateway.migrations.session_state import as_ourselves
from mosaic_gateway.migrations.wire import ServerError, send

__all__ = ["StatementRunningError", "finish", "give_up", "intend", "look", "repair", "run"]

Connection = psycopg.Connection[tuple[object, ...]]

#: What may leave something behind when it fails: the next run looks, as after a crash.
LEAVES_TRACES = {StatementKind.CREATE_INDEX, StatementKind.REINDEX, StatementKind.DETACH}
ORPHAN_LIMIT = 60.0  # seconds
PAUSE = 0.05  # seconds between two looks
#: The activity view cuts a query off.
SHOWN = 1000  # characters
ORPHAN: LiteralString = """
SELECT pid FROM pg_catalog.pg_stat_activity
WHERE datname = current_database() AND state = 'active' AND pid <> pg_backend_pid() AND left(query, %s) = %s
"""


class StatementRunningError(BusyError):
    """The statement of a runner that is gone is still running in the server."""

    code = "STATEMENT_RUNNING"


def intend(connection: Connection, ledger: LedgerName, item: StatementTask) -> dict[str, Any]:
    """Write that *item* is about to run; return the note that is kept with it. Raises `FencedError`."""
    sql = item.statement.sql
    note = {"sql": sql, **statements.observe(connection, statements.classify(sql))}
    with as_ourselves(connection):
        connection.execute("SET LOCAL synchronous_commit = on")
        if not progress.note_intent(connection, ledger, item.migration, item.statement.number, note):
            raise FencedError
    return note


def run(connection: Connection, sql: str, *, pooled: bool) -> ServerError | None:
    """Run *sql* by itself; return why it failed, None when it did not. Raises psycopg.OperationalError."""
    with _find_waiting(connection, pooled=pooled):
        return send(connection, sql).error


def finish(connection: Connection, ledger: LedgerName, item: StatementTask, ledger_row: str) -> None:
    """Record *item* as applied, and its migration with *ledger_row* after the last one. Raises `FencedError`."""
    with as_ourselves(connection):
        if not progress.finish_intent(connection, ledger, item.migration, item.statement.number):
            raise FencedError
        if item.last:
            connection.execute(f"SET LOCAL synchronous_commit = on; {ledger_row}".encode())


def give_up(connection: Connection, ledger: LedgerName, item: StatementTask) -> None:
    """Take the intent of *item*, which failed, back, unless there may be something to clear away."""
    if statements.classify(item.statement.sql).kind not in LEAVES_TRACES:
        with as_ourselves(connection):
            progress.forget_intent(connection, ledger, item.migration, item.statement.number)


def look(connection: Connection, sql: str, note: Mapping[str, Any]) -> ProbeResult:
    """Return what became of *sql*, whose intent was found with *note*.

    Waits for the server process of a dead runner that is still at it. Raises `StatementRunningError`.
    """
    deadline = time.monotonic() + ORPHAN_LIMIT
    while (pid := _orphan(connection, sql)) is not None:
        if time.monotonic() >= deadline:
            raise StatementRunningError(
                f"server process {pid} still runs the statement of an earlier run: {' '.join(sql.split())[:200]}",
                hint="Wait until it ends, then run the command again.",
                details={"pid": pid, "sql": sql},
            )
        time.sleep(PAUSE)
    return statements.probe(connection, statements.classify(sql), note)


def repair(connection: Connection, finding: ProbeResult, *, pooled: bool) -> None:
    """Run what *finding* says must run first."""
    with _find_waiting(connection, pooled=pooled):
        for sql in finding.before:
            connection.execute(sql.encode())


def _orphan(connection: Connection, sql: str) -> int | None:
    with as_ourselves(connection):
        row = connection.execute(ORPHAN, (SHOWN, sql[:SHOWN])).fetchone()
    return None if row is None else int(str(row[0]))


@contextmanager
def _find_waiting(connection: Connection, *, pooled: bool) -> Iterator[None]:
    """Wait for locks without a limit inside the block; through a pooler nothing set a limit before."""
    if pooled:
        yield
        return
    row = connection.execute("SELECT current_setting('lock_timeout')").fetchone()
    connection.execute("SET lock_timeout = 0")
    try:
        yield
    finally:
        if not connection.broken:
            connection.execute("SELECT set_config('lock_timeout', %s, false)", (str(row[0]) if row else "0",))
