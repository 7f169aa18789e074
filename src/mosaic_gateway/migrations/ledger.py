"""The ledger: the applied migrations, in drizzle's own table and format.

drizzle-orm 0.30 to 0.45 creates ``(id serial primary key, hash text not null, created_at bigint)``: format
v0. Version 1.0 adds ``name text, applied_at timestamptz default now()``: format v1, in which drizzle runs a
migration again if its row has no name. A row holds a migration's hash and ``when``, which 1.0 truncates to
seconds. The v1 name is that of the migration's folder in drizzle-kit 1.0's layout; a bundle in that layout gets a
ledger of format v1, and an existing one of format v0 is converted as drizzle-orm 1.0 does. All SQL on that table is
here.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import LiteralString

import psycopg
from psycopg import sql

from mosaic_gateway.errors import RefusedError
from mosaic_gateway.migrations.bundle import Bundle, LedgerName
from mosaic_gateway.migrations.matching import drizzle_name, match
from mosaic_gateway.migrations.model import AppliedRow, Migration
from mosaic_gateway.migrations.quoting import quote_name, quote_text

__all__ = [
    "NotALedgerError",
    "count",
    "create",
    "has_exactly",
    "is_current",
    "is_up_to_date",
    "name_rows",
    "read",
    "recorder",
]

Connection = psycopg.Connection[tuple[object, ...]]
#: Whether the table exists, and whether it has drizzle's three columns: numbers, and the hash as text.
EXISTS: LiteralString = """
SELECT to_regclass(%(table)s) IS NOT NULL, (
    SELECT count(*) = 3 FROM pg_catalog.pg_attribute a JOIN pg_catalog.pg_type t ON t.oid = a.atttypid
    WHERE attrelid = to_regclass(%(table)s) AND NOT attisdropped
    AND (attname::text, typcategory::text) IN (('id', 'N'), ('hash', 'S'), ('created_at', 'N')))
"""
NAMED: LiteralString = """
SELECT EXISTS (SELECT FROM pg_catalog.pg_attribute
    WHERE attrelid = to_regclass(%s) AND attname = 'name' AND NOT attisdropped)
"""
#: A ledger of format v0 has no column ``name``: the JSON form of its rows has no such key.
ROWS: LiteralString = "SELECT id, hash, created_at, to_jsonb(entry) ->> 'name' FROM {} AS entry ORDER BY id"
UNNAMED: LiteralString = "SELECT EXISTS (SELECT FROM {} AS entry WHERE to_jsonb(entry) ->> 'name' IS NULL)"
#: The columns that drizzle-orm 1.0 adds; the rows that it finds have no ``applied_at``.
CONVERT: LiteralString = """
ALTER TABLE {0} ADD COLUMN IF NOT EXISTS name text,
    ADD COLUMN IF NOT EXISTS applied_at timestamp with time zone DEFAULT now();
UPDATE {0} SET applied_at = NULL
"""
NAME: LiteralString = """
UPDATE {} AS entry SET name = known.name FROM unnest(%s::int[], %s::text[]) AS known (id, name)
WHERE entry.id = known.id
"""
FINGERPRINT: LiteralString = """
SELECT count(*)::int, md5(coalesce(string_agg(entry, ',' ORDER BY entry COLLATE "C"), ''))
FROM (SELECT hash || ':' || coalesce(created_at::text, '') AS entry FROM {}) AS entries
"""


class NotALedgerError(RefusedError):
    """The table that should record the applied migrations is something else."""

    code = "NOT_A_LEDGER"


def create(connection: Connection, ledger: LedgerName, migrations: Sequence[Migration] = ()) -> None:
    """Create the ledger if it is missing, exactly as drizzle-orm creates it: 0.45, or 1.0 for *migrations* in folders.

    An existing ledger of format v0 is converted for migrations in folders; the caller has a transaction. Existence is
    checked first: CREATE SCHEMA IF NOT EXISTS needs the CREATE privilege even if the schema exists.
    """
    named = _in_folders(migrations)
    if _exists(connection, ledger):
        if named and not _query_bool(connection, NAMED, ledger):
            connection.execute(sql.SQL(CONVERT).format(_table(ledger)))
        if named:
            name_rows(connection, ledger, migrations)
        return
    connection.execute(sql.SQL("CREATE SCHEMA IF NOT EXISTS {}").format(sql.Identifier(ledger.schema)))
    columns: LiteralString = "id SERIAL PRIMARY KEY, hash text NOT NULL, created_at bigint"
    if named:
        columns = f"{columns}, name text, applied_at timestamp with time zone DEFAULT now()"
    connection.execute(sql.SQL("CREATE TABLE IF NOT EXISTS {} ({})").format(_table(ledger), sql.SQL(columns)))


def is_current(connection: Connection, ledger: LedgerName, migrations: Sequence[Migration]) -> bool:
    """Return whether drizzle-orm 1.0 finds each of the applied *migrations* in folders in the ledger, by its name."""
    if not _in_folders(migrations):
        return True
    row = connection.execute(sql.SQL(UNNAMED).format(_table(ledger))).fetchone()
    return not (row and row[0])


def is_up_to_date(connection: Connection, bundle: Bundle) -> bool:
    """Return whether a run over *bundle* has nothing to do; False also if only its plan can show that."""
    return has_exactly(connection, bundle) and is_current(connection, bundle.ledger, bundle.migrations)


def read(connection: Connection, ledger: LedgerName) -> tuple[AppliedRow, ...]:
    """Return the rows in the order of insertion; none if there is no ledger. Writes nothing."""
    return tuple(row for _, row in _rows(connection, ledger))


def count(connection: Connection, ledger: LedgerName) -> int:
    """Return the number of rows; 0 if there is no ledger."""
    if not _exists(connection, ledger):
        return 0
    row = connection.execute(sql.SQL("SELECT count(*)::int FROM {}").format(_table(ledger))).fetchone()
    return int(str(row[0])) if row else 0


def has_exactly(connection: Connection, bundle: Bundle) -> bool:
    """Return whether the rows are those of all migrations of *bundle* and no others: nothing has to run.

    The server computes a digest of the rows, as `Bundle.ledger_digest` is computed from the files.
    """
    if not _exists(connection, bundle.ledger):
        return False
    row = connection.execute(sql.SQL(FINGERPRINT).format(_table(bundle.ledger))).fetchone()
    return row is not None and f"{row[0]}:{row[1]}" == bundle.ledger_digest


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
    rows = _rows(connection, ledger)
    matches = match(migrations, [row for _, row in rows])
    names = {rows[at][0]: drizzle_name(migrations[index]) for at, index in matches.migrations.items()}
    unnamed = [key for key, row in rows if row.name is None and key in names]
    connection.execute(sql.SQL(NAME).format(_table(ledger)), (unnamed, [names[key] for key in unnamed]))


def _in_folders(migrations: Sequence[Migration]) -> bool:
    return any(migration.folder for migration in migrations)


def _rows(connection: Connection, ledger: LedgerName) -> list[tuple[int, AppliedRow]]:
    """Return id and contents of the rows, in the order of insertion."""
    if not _exists(connection, ledger):
        return []
    return [
        (
            int(str(key)),
            AppliedRow(
                hash=str(row_hash),
                when=None if when is None else int(str(when)),
                name=None if name is None else str(name),
            ),
        )
        for key, row_hash, when, name in connection.execute(sql.SQL(ROWS).format(_table(ledger)))
    ]


def _exists(connection: Connection, ledger: LedgerName) -> bool:
    """Return whether there is a ledger. Raises `NotALedgerError` if another table has its name."""
    row = connection.execute(EXISTS, {"table": _table(ledger).as_string(connection)}).fetchone()
    if row is None or not row[0]:
        return False
    if not row[1]:
        raise NotALedgerError(
            f"the table {ledger} is not a ledger: it does not have the columns id, hash and created_at of one",
            hint="Nothing was run. Name the ledger of these migrations with --ledger, or a table that does not exist: "
            "it is created.",
            details={"ledger": str(ledger)},
        )
    return True


def _query_bool(connection: Connection, query: LiteralString, ledger: LedgerName) -> bool:
    row = connection.execute(query, (_table(ledger).as_string(connection),)).fetchone()
    return bool(row and row[0])


def _table(ledger: LedgerName) -> sql.Identifier:
    return sql.Identifier(ledger.schema, ledger.table)
