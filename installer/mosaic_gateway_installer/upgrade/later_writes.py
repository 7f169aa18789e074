"""Detects what has been written to a database since an upgrade.

On PostgreSQL this compares the cumulative statistics of rows inserted, updated and deleted. Reading them takes
milliseconds, where counting rows would lengthen every upgrade's downtime. They survive a clean shutdown, but not a
crash; then the answer is that the writes are unknown. PGlite loses its statistics at every exit, so rows are counted
there. A row is new if its ``xmin`` is a transaction that began after the upgrade; ``xmin`` survives restarts.

The row that a gateway writes about itself at each start is not counted.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass
from enum import StrEnum
from typing import LiteralString

import psycopg
from psycopg import sql
from psycopg.rows import TupleRow

from mosaic_gateway.engines import connect
from mosaic_gateway.installation import EngineName

__all__ = ["DetectionMethod", "WriteBaseline", "read_baseline", "writes_since"]

APPLICATION = "mosaic-gateway upgrade"
DOCUMENTS = "public.storage_documents"
COUNTERS: LiteralString = """
    SELECT schemaname || '.' || relname, n_tup_ins, n_tup_upd, n_tup_del FROM pg_catalog.pg_stat_user_tables ORDER BY 1
"""
#: The statistics' reset time: it changes only by a crash or by ``pg_stat_reset``.
EPOCH: LiteralString = (
    "SELECT coalesce(stats_reset::text, '-') FROM pg_catalog.pg_stat_database WHERE datname = current_database()"
)
#: Changed documents, without the one that a gateway writes about itself at each start.
DOCUMENTS_SINCE: LiteralString = """
    SELECT count(*) FROM public.storage_documents
    WHERE updated_at > %s::timestamp AND NOT (collection = 'gateway' AND key = 'instance')
"""
OTHER_SESSIONS: LiteralString = """
    SELECT count(*) FROM pg_catalog.pg_stat_activity
    WHERE datname = current_database() AND pid <> pg_backend_pid() AND backend_type = 'client backend'
"""
OTHER_SESSIONS_LIMIT = 3.0  # seconds
#: The next transaction id; no earlier transaction is in progress when this is read.
NEXT_TRANSACTION: LiteralString = "SELECT pg_catalog.pg_snapshot_xmax(pg_catalog.pg_current_snapshot())::text"
TABLES: LiteralString = """
    SELECT n.nspname, c.relname FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
    WHERE c.relkind = 'r' AND c.relpersistence <> 't'
      AND n.nspname <> 'information_schema' AND n.nspname NOT LIKE 'pg\\_%' ORDER BY 1, 2
"""
ROWS: LiteralString = "SELECT count(*) FROM {table} WHERE {counted}"
ROWS_SINCE: LiteralString = """
    SELECT count(*), count(*) FILTER (WHERE age(xmin) <= age((%s::text)::xid8::xid)) FROM {table} WHERE {counted}
"""


class DetectionMethod(StrEnum):
    """How writes are detected: by the cumulative statistics, or by counting rows and their ``xmin``."""

    COUNTERS = "counters"
    ROWS = "rows"

    @staticmethod
    def of(engine: EngineName) -> DetectionMethod:
        """Return the method whose data survives a restart of *engine*."""
        return DetectionMethod.ROWS if engine is EngineName.PGLITE else DetectionMethod.COUNTERS


@dataclass(frozen=True, slots=True, kw_only=True)
class WriteBaseline:
    """The state of all tables at the time *at* (UTC without zone), as read by the method *means*.

    For COUNTERS, *tables* maps each table to its counts of rows inserted, updated and deleted, and *since* is the
    statistics' reset time. For ROWS it maps each table to (number of rows, 0, 0), and *since* is the next transaction.
    """

    means: DetectionMethod
    at: str
    since: str
    tables: Mapping[str, tuple[int, int, int]]


def read_baseline(conninfo: str, means: DetectionMethod) -> WriteBaseline:
    """Return the current state of all tables. Every writer must have closed its session.

    Raises psycopg.Error.
    """
    with closing(connect(conninfo, application_name=APPLICATION)) as connection:
        at = _value(connection, "SELECT (now() AT TIME ZONE 'UTC')::text")
        if means is DetectionMethod.ROWS:
            since = _value(connection, NEXT_TRANSACTION)
            tables = {name: (_row(connection, ROWS, parts)[0], 0, 0) for name, parts in _tables(connection)}
        else:
            _await_other_sessions(connection)
            since = _value(connection, EPOCH)
            tables = {str(name): (int(i), int(u), int(d)) for name, i, u, d in connection.execute(COUNTERS)}
        return WriteBaseline(means=means, at=at, since=since, tables=tables)


def writes_since(before: WriteBaseline | None, conninfo: str) -> tuple[str, ...] | None:
    """Return what has been written since *before*, one phrase for each table; None if it cannot be determined.

    Every writer must have closed its session. Raises psycopg.Error.
    """
    if before is None:
        return None
    changes = _by_rows(before, conninfo) if before.means is DetectionMethod.ROWS else _by_counters(before, conninfo)
    if changes is None:
        return None
    summary = []
    for table, (inserted, changed, deleted) in sorted(changes.items()):
        counts = [f"{n} {verb}" for n, verb in ((inserted, "added"), (changed, "changed"), (deleted, "deleted")) if n]
        if counts:
            summary.append(f"{table}: rows {', '.join(counts)}")
    return (*summary, *(f"{table}: dropped" for table in before.tables if table not in changes))


def _by_counters(before: WriteBaseline, conninfo: str) -> dict[str, tuple[int, int, int]] | None:
    now = read_baseline(conninfo, DetectionMethod.COUNTERS)
    if before.since != now.since:
        return None
    changes = {}
    for table, counts in now.tables.items():
        inserted, changed, deleted = (b - a for a, b in zip(before.tables.get(table, (0, 0, 0)), counts, strict=True))
        if min(inserted, changed, deleted) < 0:
            return None
        if table == DOCUMENTS and not deleted:
            inserted, changed = 0, _documents_since(before.at, conninfo)
        changes[table] = inserted, changed, deleted
    return changes


def _by_rows(before: WriteBaseline, conninfo: str) -> dict[str, tuple[int, int, int]]:
    """Compare row counts; a new row is counted as an update for as long as old rows are missing."""
    changes = {}
    with closing(connect(conninfo, application_name=APPLICATION)) as connection:
        for table, parts in _tables(connection):
            total, new = _row(connection, ROWS_SINCE, parts, before.since)
            missing = before.tables.get(table, (0, 0, 0))[0] - (total - new)
            changed = min(new, missing)
            changes[table] = new - changed, changed, missing - changed
    return changes


def _tables(connection: psycopg.Connection[TupleRow]) -> Iterator[tuple[str, tuple[str, str]]]:
    """Yield each table's name for messages, and its schema and name."""
    for schema, table in connection.execute(TABLES).fetchall():
        yield f"{schema}.{table}", (schema, table)


def _row(
    connection: psycopg.Connection[TupleRow], query: LiteralString, table: tuple[str, str], *parameters: str
) -> tuple[int, ...]:
    """Return *query*'s row for *table*, without the document that a gateway writes about itself at each start."""
    counted = "NOT (collection = 'gateway' AND key = 'instance')" if ".".join(table) == DOCUMENTS else "true"
    text = sql.SQL(query).format(table=sql.Identifier(*table), counted=sql.SQL(counted))
    row = connection.execute(text, parameters or None).fetchone()
    return tuple(int(value) for value in row or ())


def _await_other_sessions(connection: psycopg.Connection[TupleRow]) -> None:
    """Wait until no other session is left, at most `OTHER_SESSIONS_LIMIT` seconds.

    A backend reports its statistics when it exits, which is a moment after its client has disconnected.
    """
    deadline = time.monotonic() + OTHER_SESSIONS_LIMIT
    while _value(connection, OTHER_SESSIONS) != "0" and time.monotonic() < deadline:
        time.sleep(0.01)


def _documents_since(at: str, conninfo: str) -> int:
    with closing(connect(conninfo, application_name=APPLICATION)) as connection:
        row = connection.execute(DOCUMENTS_SINCE, [at]).fetchone()
        return int(row[0]) if row is not None else 0


def _value(connection: psycopg.Connection[TupleRow], query: LiteralString) -> str:
    row = connection.execute(query).fetchone()
    return str(row[0]) if row is not None else "-"
