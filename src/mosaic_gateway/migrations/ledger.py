"""The ledger: what has been applied, in drizzle's own table and form.

drizzle-orm 0.30 to 0.45 keeps ``(id serial primary key, hash text not null, created_at bigint)``; a
row is a migration's hash and ``when``. All SQL on that table is here.
"""

from __future__ import annotations

from typing import LiteralString

import psycopg
from psycopg import sql

from mosaic_gateway.migrations.bundle import LedgerName
from mosaic_gateway.migrations.model import AppliedRow, Migration

__all__ = ["create", "read", "record"]

EXISTS: LiteralString = "SELECT to_regclass(%s) IS NOT NULL"


def create(connection: psycopg.Connection[tuple[object, ...]], ledger: LedgerName) -> None:
    """Make the ledger where it is missing, exactly as drizzle-orm makes it.

    Looked for first: PostgreSQL wants the right to create a schema even for one that is there.
    """
    if _exists(connection, ledger):
        return
    connection.execute(sql.SQL("CREATE SCHEMA IF NOT EXISTS {}").format(sql.Identifier(ledger.schema)))
    connection.execute(
        sql.SQL("CREATE TABLE IF NOT EXISTS {} (id SERIAL PRIMARY KEY, hash text NOT NULL, created_at bigint)").format(
            _table(ledger)
        )
    )


def read(connection: psycopg.Connection[tuple[object, ...]], ledger: LedgerName) -> tuple[AppliedRow, ...]:
    """Return the rows in the order of their making; none where there is no ledger. Writes nothing."""
    if not _exists(connection, ledger):
        return ()
    query = sql.SQL("SELECT hash, created_at FROM {} ORDER BY id").format(_table(ledger))
    return tuple(
        AppliedRow(hash=str(row_hash), when=None if when is None else int(str(when)))
        for row_hash, when in connection.execute(query)
    )


def record(connection: psycopg.Connection[tuple[object, ...]], ledger: LedgerName, migration: Migration) -> None:
    """Write that *migration* is applied; the caller's transaction also holds its last statement."""
    connection.execute(
        sql.SQL("INSERT INTO {} (hash, created_at) VALUES (%s, %s)").format(_table(ledger)),
        (migration.hash, migration.when),
    )


def _exists(connection: psycopg.Connection[tuple[object, ...]], ledger: LedgerName) -> bool:
    found = connection.execute(EXISTS, (_table(ledger).as_string(connection),)).fetchone()
    return bool(found and found[0])


def _table(ledger: LedgerName) -> sql.Identifier:
    return sql.Identifier(ledger.schema, ledger.table)
