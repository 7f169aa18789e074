"""The ledger: the applied migrations, in drizzle's own table and format.

drizzle-orm 0.30 to 0.45 creates ``(id serial primary key, hash text not null, created_at bigint)``: format
v0. Version 1.0 adds ``name text, applied_at timestamptz default now()``: format v1, in which drizzle runs a
migration again if its row has no name. A row holds a migration's hash and ``when``, which 1.0 truncates to
seconds. The v1 name is that of the folder to which drizzle-kit 1.0 moves the file. All SQL on that table is here.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from typing import LiteralString

import psycopg
from psycopg import sql

from mosaic_gateway.migrations.bundle import LedgerName
from mosaic_gateway.migrations.model import AppliedRow, Migration
from mosaic_gateway.migrations.script import quote_name, quote_text

__all__ = ["count", "create", "drizzle_name", "fingerprint", "name_rows", "read", "recorder"]

Connection = psycopg.Connection[tuple[object, ...]]
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
EXISTS: LiteralString = "SELECT to_regclass(%s) IS NOT NULL"
NAMED: LiteralString = """
SELECT EXISTS (SELECT FROM pg_catalog.pg_attribute
    WHERE attrelid = to_regclass(%s) AND attname = 'name' AND NOT attisdropped)
"""
UNNAMED: LiteralString = "SELECT EXISTS (SELECT FROM {} WHERE name IS NULL)"
NAME: LiteralString = """
UPDATE {} AS entry SET name = known.name
FROM unnest(%s::text[], %s::bigint[], %s::text[]) AS known (hash, second, name)
WHERE entry.name IS NULL AND entry.hash = known.hash AND entry.created_at / 1000 = known.second
"""
FINGERPRINT: LiteralString = """
SELECT count(*)::int, md5(coalesce(string_agg(entry, ',' ORDER BY entry COLLATE "C"), ''))
FROM (SELECT hash || ':' || coalesce(created_at::text, '') AS entry FROM {}) AS entries
"""


def create(connection: Connection, ledger: LedgerName) -> None:
    """Create the ledger if it is missing, exactly as drizzle-orm 0.45 creates it.

    Existence is checked first: CREATE SCHEMA IF NOT EXISTS needs the CREATE privilege even if the schema exists.
    """
    if _query_bool(connection, EXISTS, ledger):
        return
    connection.execute(sql.SQL("CREATE SCHEMA IF NOT EXISTS {}").format(sql.Identifier(ledger.schema)))
    connection.execute(
        sql.SQL("CREATE TABLE IF NOT EXISTS {} (id SERIAL PRIMARY KEY, hash text NOT NULL, created_at bigint)").format(
            _table(ledger)
        )
    )


def read(connection: Connection, ledger: LedgerName) -> tuple[AppliedRow, ...]:
    """Return the rows in the order of insertion; none if there is no ledger. Writes nothing."""
    if not _query_bool(connection, EXISTS, ledger):
        return ()
    query = sql.SQL("SELECT hash, created_at FROM {} ORDER BY id").format(_table(ledger))
    return tuple(
        AppliedRow(hash=str(row_hash), when=None if when is None else int(str(when)))
        for row_hash, when in connection.execute(query)
    )


def count(connection: Connection, ledger: LedgerName) -> int:
    """Return the number of rows; 0 if there is no ledger."""
    if not _query_bool(connection, EXISTS, ledger):
        return 0
    row = connection.execute(sql.SQL("SELECT count(*)::int FROM {}").format(_table(ledger))).fetchone()
    return int(str(row[0])) if row else 0


def fingerprint(connection: Connection, ledger: LedgerName) -> str | None:
    """Return a digest of all rows, computed by the server as in `Bundle.ledger_digest`; None without a ledger."""
    if not _query_bool(connection, EXISTS, ledger):
        return None
    row = connection.execute(sql.SQL(FINGERPRINT).format(_table(ledger))).fetchone()
    return None if row is None else f"{row[0]}:{row[1]}"


def recorder(connection: Connection, ledger: LedgerName) -> Callable[[Migration], str]:
    """Return a function that returns the INSERT statement of a migration's row, in the format of the ledger."""
    table = f"{quote_name(ledger.schema)}.{quote_name(ledger.table)}"
    named = _query_bool(connection, NAMED, ledger)

    def record(migration: Migration) -> str:
        columns, values = "hash, created_at", f"{quote_text(migration.hash)}, {migration.when}"
        if named:
            columns, values = f"{columns}, name", f"{values}, {quote_text(drizzle_name(migration))}"
        return f"INSERT INTO {table} ({columns}) VALUES ({values});"  # noqa: S608 - quoted above

    return record


def name_rows(connection: Connection, ledger: LedgerName, migrations: Sequence[Migration]) -> None:
    """Fill in missing names of the rows of *migrations* in a v1 ledger: drizzle-orm 0.45 inserts rows without one.

    drizzle 1.0 would run such migrations again.
    """
    if not _query_bool(connection, NAMED, ledger):
        return
    row = connection.execute(sql.SQL(UNNAMED).format(_table(ledger))).fetchone()
    if row is None or not row[0]:
        return
    columns = zip(*((m.hash, m.when // 1000, drizzle_name(m)) for m in migrations), strict=True)
    connection.execute(sql.SQL(NAME).format(_table(ledger)), [list(column) for column in columns])


def drizzle_name(migration: Migration) -> str:
    """Return drizzle 1.0's name for *migration*.

    Source: drizzle-kit 1.0.0-rc.5, ``planFoldersV3``: ``when`` as a UTC time (14 digits), an underscore, and the part
    of the tag after its first underscore.
    """
    moment = EPOCH + timedelta(milliseconds=migration.when)
    return f"{moment:%Y%m%d%H%M%S}_{migration.tag.partition('_')[2]}"


def _query_bool(connection: Connection, query: LiteralString, ledger: LedgerName) -> bool:
    row = connection.execute(query, (_table(ledger).as_string(connection),)).fetchone()
    return bool(row and row[0])


def _table(ledger: LedgerName) -> sql.Identifier:
    return sql.Identifier(ledger.schema, ledger.table)
