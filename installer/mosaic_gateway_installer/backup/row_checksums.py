"""Checksums of a database's content for comparison: the rows of each table, and the objects of the schema.

Each row is hashed from the text form of its columns, under settings that fix the output formats; vectors
are hashed from their binary form, which is much shorter. A table's checksum is the sum of its rows' hashes, so
that row order does not matter, and duplicate rows are counted.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import LiteralString

import psycopg
from psycopg import sql
from psycopg.rows import TupleRow

from mosaic_gateway.migrations import schema_lines
from mosaic_gateway_installer.backup.manifest import TableRows

__all__ = ["Contents", "differing_tables", "lock_tables", "objects_hash", "table_rows", "tables_of", "writers_blocked"]

Connection = psycopg.Connection[TupleRow]
Contents = tuple[TableRows, ...]

#: The settings on which the text form of a value can depend.
SETTINGS: LiteralString = """
    SELECT set_config('search_path', '', true), set_config('TimeZone', 'UTC', true),
           set_config('DateStyle', 'ISO', true), set_config('IntervalStyle', 'iso_8601', true),
           set_config('extra_float_digits', '1', true), set_config('bytea_output', 'hex', true),
           set_config('xmloption', 'content', true)
"""
#: Permanent tables that no extension owns. Unlogged tables are empty after a crash, and so in a backup.
TABLES: LiteralString = """
    SELECT n.nspname, c.relname FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
    WHERE c.relkind = 'r' AND c.relpersistence = 'p' AND n.nspname <> 'information_schema'
      AND n.nspname NOT LIKE 'pg\\_%'
      AND NOT EXISTS (SELECT FROM pg_catalog.pg_depend d
                      WHERE d.classid = 'pg_catalog.pg_class'::regclass AND d.objid = c.oid AND d.deptype = 'e')
    ORDER BY 1, 2
"""
COLUMNS: LiteralString = """
    SELECT a.attname, CASE WHEN t.typname IN ('vector', 'halfvec', 'sparsevec') THEN t.typsend::text END
    FROM pg_catalog.pg_attribute a JOIN pg_catalog.pg_type t ON t.oid = a.atttypid
    WHERE a.attrelid = %s::text::regclass AND a.attnum > 0 AND NOT a.attisdropped ORDER BY a.attnum
"""
SUM = """
    SELECT count(*), coalesce(sum(('x' || substr(h, 1, 16))::bit(64)::bigint), 0)::text || ':'
                  || coalesce(sum(('x' || substr(h, 17, 16))::bit(64)::bigint), 0)::text
    FROM (SELECT encode(sha256({}), 'hex') AS h FROM {}) AS hashed
"""


def tables_of(connection: Connection) -> tuple[sql.Identifier, ...]:
    """Return the tables whose rows are compared, in a fixed order."""
    return tuple(sql.Identifier(schema, name) for schema, name in connection.execute(TABLES))


def table_rows(connection: Connection) -> Contents:
    """Return count and checksum of every table, in the snapshot of the caller's transaction, if there is one."""
    with connection.transaction():
        connection.execute(SETTINGS)
        return tuple(_rows_of(connection, table) for table in tables_of(connection))


def objects_hash(connection: Connection) -> str:
    """Return a hash over the schema's objects (see `migrations.schema_fingerprint`)."""
    return hashlib.sha256("\n".join(schema_lines(connection)).encode()).hexdigest()


def differing_tables(expected: Contents, actual: Contents) -> tuple[str, ...]:
    """Return a phrase for each table whose rows differ from the expected ones. Pure."""
    actual_rows = {rows.table: rows for rows in actual}
    expected_tables = {rows.table for rows in expected}
    summary = []
    for rows in expected:
        other = actual_rows.get(rows.table)
        if other is None:
            summary.append(f"{rows.table} is missing")
        elif other.count != rows.count:
            summary.append(f"{rows.table} has {other.count} rows, not {rows.count}")
        elif other.checksum != rows.checksum:
            summary.append(f"{rows.table} has different rows")
    return (*summary, *(f"{table} is unexpected" for table in sorted(set(actual_rows) - expected_tables)))


@contextmanager
def writers_blocked(connection: Connection, *, lock_timeout: float) -> Iterator[tuple[sql.Identifier, ...]]:
    """Lock all tables in SHARE mode inside the block, which must be short: readers continue, writers wait.

    Yields the tables; tables that are created meanwhile are not locked. Waits for running writers, for each table at
    most *lock_timeout* seconds. That is less than ``deadlock_timeout`` (1 s), so that a deadlock never cancels another
    session. Raises psycopg.errors.LockNotAvailable, UndefinedTable (dropped just then), DeadlockDetected.
    """
    with connection.transaction():
        tables = tables_of(connection)
        _lock(connection, tables, sql.SQL("SHARE"), lock_timeout)
        yield tables


def lock_tables(connection: Connection, tables: Sequence[sql.Identifier], *, lock_timeout: float) -> None:
    """Protect *tables* from being dropped or rewritten until the transaction of *connection* ends.

    Raises psycopg.errors.LockNotAvailable after *lock_timeout* seconds.
    """
    _lock(connection, tables, sql.SQL("ACCESS SHARE"), lock_timeout)


def _lock(connection: Connection, tables: Sequence[sql.Identifier], mode: sql.SQL, lock_timeout: float) -> None:
    limit = sql.Literal(f"{int(lock_timeout * 1000)}ms")
    connection.execute(sql.SQL("SET LOCAL lock_timeout = {}").format(limit))
    if tables:
        connection.execute(sql.SQL("LOCK TABLE {} IN {} MODE").format(sql.SQL(", ").join(tables), mode))


def _rows_of(connection: Connection, table: sql.Identifier) -> TableRows:
    name = table.as_string(connection)
    columns = connection.execute(COLUMNS, [name]).fetchall()
    texts = [sql.Identifier(column) for column, send in columns if send is None]
    # With an empty search path, ``typsend::text`` is schema-qualified and quoted as needed.
    binary = [
        sql.SQL(" || coalesce({}({}), '')").format(sql.SQL(send), sql.Identifier(column))
        for column, send in columns
        if send is not None
    ]
    row = sql.SQL("convert_to(ROW({})::text, 'UTF8')").format(sql.SQL(", ").join(texts)) + sql.Composed(binary)
    total = connection.execute(sql.SQL(SUM).format(row, table)).fetchone()
    if total is None:
        raise LookupError(name)
    return TableRows(name, int(total[0]), str(total[1]))
