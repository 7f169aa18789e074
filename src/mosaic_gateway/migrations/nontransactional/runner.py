"""Runs one nontransactional statement: intent → statement → done, and recovers an interrupted one.

The intent is flushed to disk before the statement runs, because some of these statements have effects that
are not ordered by WAL. They run without lock_timeout, because a timeout would leave an invalid index;
the migration lock excludes other runners.
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
from mosaic_gateway.migrations.script import GroupTask
from mosaic_gateway.migrations.session_state import session_user_transaction
from mosaic_gateway.migrations.wire import ServerError, send

__all__ = ["StatementRunningError", "abandon", "finish", "probe", "record_intent", "repair", "run"]

Connection = psycopg.Connection[tuple[object, ...]]

#: Statements that may leave something behind when they fail: the next run checks for it, as after a crash.
LEAVES_TRACES = {
    StatementKind.CREATE_INDEX, StatementKind.REINDEX, StatementKind.DETACH, StatementKind.COMMITS,
}  # fmt: skip
ORPHAN_LIMIT = 60.0  # seconds
PAUSE = 0.05  # seconds between two checks
#: Characters compared; pg_stat_activity truncates queries to track_activity_query_size, 1024 bytes by default.
COMPARED = 1000
ORPHAN: LiteralString = """
SELECT pid FROM pg_catalog.pg_stat_activity
WHERE datname = current_database() AND state = 'active' AND pid <> pg_backend_pid() AND left(query, %s) = %s
"""


class StatementRunningError(BusyError):
    """The statement of a terminated runner is still running in its backend."""

    code = "STATEMENT_RUNNING"


def record_intent(connection: Connection, ledger: LedgerName, item: GroupTask) -> dict[str, Any]:
    """Record that *item* is about to run; return the note stored with the intent. Raises `FencedError`."""
    sql = item.text
    note = {"sql": sql, **statements.observe(connection, statements.classify(sql))}
    with session_user_transaction(connection):
        connection.execute("SET LOCAL synchronous_commit = on")
        if not progress.note_intent(connection, ledger, item.migration, item.statement.number, note):
            raise FencedError
    return note


def run(connection: Connection, sql: str, *, pooled: bool) -> ServerError | None:
    """Run *sql* as a message of its own; return its error, None on success. Raises psycopg.OperationalError."""
    with _without_lock_timeout(connection, pooled=pooled):
        return send(connection, sql).error


def finish(connection: Connection, ledger: LedgerName, item: GroupTask, ledger_row: str) -> None:
    """Record *item* as applied, and with *ledger_row* its migration if it is the last one. Raises `FencedError`."""
    with session_user_transaction(connection):
        if not progress.finish_intent(connection, ledger, item.migration, item.statement.number):
            raise FencedError
        if item.last:
            connection.execute(f"SET LOCAL synchronous_commit = on; {ledger_row}".encode())


def abandon(connection: Connection, ledger: LedgerName, item: GroupTask) -> None:
    """Clear the intent of *item*, which failed, unless it may have left something that the next run must consider."""
    if statements.classify(item.text).kind not in LEAVES_TRACES:
        with session_user_transaction(connection):
            progress.clear_intent(connection, ledger, item.migration, item.statement.number)


def probe(connection: Connection, sql: str, note: Mapping[str, Any]) -> ProbeResult:
    """Return whether *sql*, whose intent is recorded with *note*, took effect.

    Waits for a backend that still runs it for a terminated runner. Raises `StatementRunningError`.
    """
    deadline = time.monotonic() + ORPHAN_LIMIT
    while (pid := _orphan(connection, sql)) is not None:
        if time.monotonic() >= deadline:
            raise StatementRunningError(
                f"server process {pid} is still running the statement of an earlier run: {' '.join(sql.split())[:200]}",
                hint="Wait until it ends, then run the command again.",
                details={"pid": pid, "sql": sql},
            )
        time.sleep(PAUSE)
    return statements.probe(connection, statements.classify(sql), note)


def repair(connection: Connection, result: ProbeResult, *, pooled: bool) -> None:
    """Run the statements that must run first according to *result*."""
    with _without_lock_timeout(connection, pooled=pooled):
        for sql in result.before:
            connection.execute(sql.encode())


def _orphan(connection: Connection, sql: str) -> int | None:
    with session_user_transaction(connection):
        row = connection.execute(ORPHAN, (COMPARED, sql[:COMPARED])).fetchone()
    return None if row is None else int(str(row[0]))


@contextmanager
def _without_lock_timeout(connection: Connection, *, pooled: bool) -> Iterator[None]:
    """Disable lock_timeout inside the block. Through a pooler it was never set for the session."""
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
