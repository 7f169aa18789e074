"""Progress: which statements of a migration are applied, in ``mosaic.migration_progress``.

The row of a migration is moved from k to k + 1 as a compare-and-set at the *start* of the transaction
that runs statement k + 1. Its row lock fences a rival runner: whoever comes second finds k + 1 there,
changes nothing, and must plan again. A row stays when its migration is done, as that fence.
"""

from __future__ import annotations

import psycopg

from mosaic_gateway.errors import InternalError
from mosaic_gateway.migrations.bundle import LedgerName
from mosaic_gateway.migrations.failure import Failure
from mosaic_gateway.migrations.model import Migration, ProgressRow
from mosaic_gateway.migrations.parse import prefix_hash

__all__ = ["advance", "begin", "create", "hold", "note_failure", "read"]

CREATE = """
CREATE TABLE IF NOT EXISTS mosaic.migration_progress (
    ledger text NOT NULL,
    tag text NOT NULL,
    hash text NOT NULL,
    applied integer NOT NULL,
    total integer NOT NULL,
    prefix text NOT NULL,
    failed_statement integer,
    failed_sqlstate text,
    failed_message text,
    started_at timestamptz NOT NULL DEFAULT now(),
    updated_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (ledger, tag)
)
"""

BEGIN = """
INSERT INTO mosaic.migration_progress (ledger, tag, hash, applied, total, prefix)
VALUES (%(ledger)s, %(tag)s, %(hash)s, 0, %(total)s, %(prefix)s)
ON CONFLICT (ledger, tag) DO UPDATE SET hash = excluded.hash, total = excluded.total
    WHERE migration_progress.hash <> excluded.hash
"""

ADVANCE = """
UPDATE mosaic.migration_progress
SET applied = %(applied)s + 1, prefix = %(prefix)s, updated_at = now(),
    failed_statement = NULL, failed_sqlstate = NULL, failed_message = NULL
WHERE ledger = %(ledger)s AND tag = %(tag)s AND hash = %(hash)s AND applied = %(applied)s
RETURNING 1
"""

HOLD = "SELECT 1 FROM mosaic.migration_progress WHERE ledger = %s AND tag = %s FOR UPDATE"

NOTE_FAILURE = """
UPDATE mosaic.migration_progress
SET failed_statement = %(statement)s, failed_sqlstate = %(sqlstate)s, failed_message = %(message)s, updated_at = now()
WHERE ledger = %(ledger)s AND tag = %(tag)s AND applied = %(statement)s - 1
"""

READ = """
SELECT tag, hash, applied, total, prefix, failed_statement, failed_sqlstate, failed_message
FROM mosaic.migration_progress WHERE ledger = %s
"""

Connection = psycopg.Connection[tuple[object, ...]]


def create(connection: Connection) -> None:
    """Make the progress table where it is missing."""
    if not _exists(connection):
        connection.execute("CREATE SCHEMA IF NOT EXISTS mosaic")
        connection.execute(CREATE)


def read(connection: Connection, ledger: LedgerName) -> dict[str, ProgressRow]:
    """Return the progress rows of *ledger* by tag; none where there is no table. Writes nothing."""
    if not _exists(connection):
        return {}
    rows = (_row(*columns) for columns in connection.execute(READ, (_key(ledger),)))
    return {row.tag: row for row in rows}


def begin(connection: Connection, ledger: LedgerName, migration: Migration) -> None:
    """Make the row of *migration* with nothing applied; a half-applied one takes the file's new hash."""
    connection.execute(
        BEGIN,
        {
            "ledger": _key(ledger),
            "tag": migration.tag,
            "hash": migration.hash,
            "total": len(migration.statements),
            "prefix": prefix_hash(migration.statements, 0),
        },
    )


def advance(connection: Connection, ledger: LedgerName, migration: Migration, applied: int) -> bool:
    """Move the row from *applied* to *applied* + 1; False when another runner was there first."""
    parameters = {
        "ledger": _key(ledger),
        "tag": migration.tag,
        "hash": migration.hash,
        "applied": applied,
        "prefix": prefix_hash(migration.statements, applied + 1),
    }
    return connection.execute(ADVANCE, parameters).fetchone() is not None


def hold(connection: Connection, ledger: LedgerName, migration: Migration) -> None:
    """Lock the row of *migration* to the end of the transaction, for what no `advance` fences."""
    connection.execute(HOLD, (_key(ledger), migration.tag))


def note_failure(connection: Connection, ledger: LedgerName, failure: Failure) -> None:
    """Keep why a statement failed, for ``storage status``."""
    connection.execute(
        NOTE_FAILURE,
        {
            "ledger": _key(ledger),
            "tag": failure.tag,
            "statement": failure.number,
            "sqlstate": failure.sqlstate,
            "message": failure.message,
        },
    )


def _exists(connection: Connection) -> bool:
    found = connection.execute("SELECT to_regclass('mosaic.migration_progress') IS NOT NULL").fetchone()
    return bool(found and found[0])


def _key(ledger: LedgerName) -> str:
    return f"{ledger.schema}.{ledger.table}"


def _row(*columns: object) -> ProgressRow:
    tag, file_hash, applied, total, prefix, statement, sqlstate, message = columns
    if not isinstance(applied, int) or not isinstance(total, int):
        raise InternalError("mosaic.migration_progress has columns of another type")
    return ProgressRow(
        tag=str(tag),
        hash=str(file_hash),
        applied=applied,
        total=total,
        prefix=str(prefix),
        failed_statement=statement if isinstance(statement, int) else None,
        failed_sqlstate=None if sqlstate is None else str(sqlstate),
        failed_message=None if message is None else str(message),
    )
