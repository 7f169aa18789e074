"""What has been written to a database since an upgrade ended.

PostgreSQL's own counters of rows inserted, changed and deleted tell it in milliseconds, where counting rows would
lengthen every upgrade's downtime. They survive an orderly stop and not a crash; then nobody can say what was written,
and that is what is said. PGlite loses them whenever it ends, so there rows are counted, and those are new that a
transaction made which began after the upgrade: a row's ``xmin`` outlasts every restart.

What every start of a gateway writes about itself does not count.
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

from mosaic_gateway.engines.session import connect
from mosaic_gateway.installation.engine_name import EngineName

__all__ = ["DetectionMethod", "WriteBaseline", "losses", "read_written"]

APPLICATION = "mosaic-gateway upgrade"
DOCUMENTS = "public.storage_documents"
COUNTERS: LiteralString = """
    SELECT schemaname || '.' || relname, n_tup_ins, n_tup_upd, n_tup_del FROM pg_catalog.pg_stat_user_tables ORDER BY 1
"""
#: A mark that only a crash, or somebody's reset, changes.
EPOCH: LiteralString = (
    "SELECT coalesce(stats_reset::text, '-') FROM pg_catalog.pg_stat_database WHERE datname = current_database()"
)
#: What the gateway says of itself at each start, among the documents.
OTHERS_SINCE: LiteralString = """
    SELECT count(*) FROM public.storage_documents
    WHERE updated_at > %s::timestamp AND NOT (collection = 'gateway' AND key = 'instance')
"""
OTHERS: LiteralString = """
    SELECT count(*) FROM pg_catalog.pg_stat_activity
    WHERE datname = current_database() AND pid <> pg_backend_pid() AND backend_type = 'client backend'
"""
OTHERS_LIMIT = 3.0  # seconds
#: The transaction that begins next, and no earlier one is still at work.
NEXT: LiteralString = "SELECT pg_catalog.pg_snapshot_xmax(pg_catalog.pg_current_snapshot())::text"
TABLES: LiteralString = """
    SELECT n.nspname, c.relname FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
    WHERE c.relkind = 'r' AND c.relpersistence <> 't'
      AND n.nspname <> 'information_schema' AND n.nspname NOT LIKE 'pg\\_%' ORDER BY 1, 2
"""
ROWS: LiteralString = "SELECT count(*) FROM {table} WHERE {ours}"
ROWS_SINCE: LiteralString = """
    SELECT count(*), count(*) FILTER (WHERE age(xmin) <= age((%s::text)::xid8::xid)) FROM {table} WHERE {ours}
"""


class DetectionMethod(StrEnum):
    """What tells it: counters of changes, or rows with the transaction that made each."""

    COUNTERS = "counters"
    ROWS = "rows"

    @staticmethod
    def of(engine: EngineName) -> DetectionMethod:
        """Return what *engine* keeps over a restart."""
        return DetectionMethod.ROWS if engine is EngineName.PGLITE else DetectionMethod.COUNTERS


@dataclass(frozen=True, slots=True, kw_only=True)
class WriteBaseline:
    """What had been written by *at* (UTC without zone), by *means*.

    By counters: table → rows inserted, changed, deleted, and *since* when they count. By rows: table → its rows, 0, 0,
    and *since* is the transaction that was to begin next.
    """

    means: DetectionMethod
    at: str
    since: str
    tables: Mapping[str, tuple[int, int, int]]


def read_written(conninfo: str, means: DetectionMethod) -> WriteBaseline:
    """Return what has been written to the database so far; every writer has closed its session.

    Raises psycopg.Error.
    """
    with closing(connect(conninfo, application_name=APPLICATION)) as connection:
        at = _value(connection, "SELECT (now() AT TIME ZONE 'UTC')::text")
        if means is DetectionMethod.ROWS:
            since = _value(connection, NEXT)
            tables = {name: (_row(connection, ROWS, parts)[0], 0, 0) for name, parts in _tables(connection)}
        else:
            _await_others(connection)
            since = _value(connection, EPOCH)
            tables = {str(name): (int(i), int(u), int(d)) for name, i, u, d in connection.execute(COUNTERS)}
        return WriteBaseline(means=means, at=at, since=since, tables=tables)


def losses(before: WriteBaseline | None, conninfo: str) -> tuple[str, ...] | None:
    """Return what has been written since *before*, a phrase for each table; None where nobody can say.

    Every writer has closed its session. Raises psycopg.Error.
    """
    if before is None:
        return None
    changes = _by_rows(before, conninfo) if before.means is DetectionMethod.ROWS else _by_counters(before, conninfo)
    if changes is None:
        return None
    summary = []
    for table, (inserted, changed, deleted) in sorted(changes.items()):
        what = [f"{n} {verb}" for n, verb in ((inserted, "added"), (changed, "changed"), (deleted, "deleted")) if n]
        if what:
            summary.append(f"{table}: rows {', '.join(what)}")
    return (*summary, *(f"{table}: dropped" for table in before.tables if table not in changes))


def _by_counters(before: WriteBaseline, conninfo: str) -> dict[str, tuple[int, int, int]] | None:
    now = read_written(conninfo, DetectionMethod.COUNTERS)
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
    """A row that is new where an old one is missing is taken for a changed one."""
    changes = {}
    with closing(connect(conninfo, application_name=APPLICATION)) as connection:
        for table, parts in _tables(connection):
            total, new = _row(connection, ROWS_SINCE, parts, before.since)
            missing = before.tables.get(table, (0, 0, 0))[0] - (total - new)
            changed = min(new, missing)
            changes[table] = new - changed, changed, missing - changed
    return changes


def _tables(connection: psycopg.Connection[TupleRow]) -> Iterator[tuple[str, tuple[str, str]]]:
    """Yield each table's name as it is told, and its parts."""
    for schema, table in connection.execute(TABLES).fetchall():
        yield f"{schema}.{table}", (schema, table)


def _row(
    connection: psycopg.Connection[TupleRow], query: LiteralString, table: tuple[str, str], *parameters: str
) -> tuple[int, ...]:
    """Return what *query* says of *table*, without what each start of a gateway writes there about itself."""
    ours = "NOT (collection = 'gateway' AND key = 'instance')" if ".".join(table) == DOCUMENTS else "true"
    text = sql.SQL(query).format(table=sql.Identifier(*table), ours=sql.SQL(ours))
    row = connection.execute(text, parameters or None).fetchone()
    return tuple(int(value) for value in row or ())


def _await_others(connection: psycopg.Connection[TupleRow]) -> None:
    """Wait until no other session is left: one hands in its counters as it ends, a moment after its client has gone.

    Sessions of others that stay are waited for only so long.
    """
    deadline = time.monotonic() + OTHERS_LIMIT
    while _value(connection, OTHERS) != "0" and time.monotonic() < deadline:
        time.sleep(0.01)


def _documents_since(at: str, conninfo: str) -> int:
    with closing(connect(conninfo, application_name=APPLICATION)) as connection:
        row = connection.execute(OTHERS_SINCE, [at]).fetchone()
        return int(row[0]) if row is not None else 0


def _value(connection: psycopg.Connection[TupleRow], query: LiteralString) -> str:
    row = connection.execute(query).fetchone()
    return str(row[0]) if row is not None else "-"
