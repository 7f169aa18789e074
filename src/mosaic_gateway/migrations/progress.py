"""Progress: which statements of a migration are applied, in ``mosaic.migration_progress``.

The row of a migration is updated from k to k + n as a compare-and-set at the *start* of the transaction
that runs the n statements of a group, mostly one. Its row lock fences a concurrent runner: the second one finds k + n
in the row, changes nothing, and must plan again. The row remains as a fence after its migration is applied.

A statement that cannot run in a transaction block has no such fence. Its number is written to ``intent``
before it runs and cleared when it is recorded as applied. If a later run finds an intent, it is unknown
whether the statement took effect, and `nontransactional` probes for it.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from typing import Any, LiteralString

import psycopg

from mosaic_gateway.errors import InternalError
from mosaic_gateway.migrations.bundle import LedgerName
from mosaic_gateway.migrations.failure import Failure
from mosaic_gateway.migrations.model import Migration, PlannedMigration, ProgressRow
from mosaic_gateway.migrations.parse import prefix_hash, statement_digests

__all__ = [
    "ADVANCE",
    "FencedError",
    "advance",
    "clear_intent",
    "create",
    "digests",
    "finish_intent",
    "key_of",
    "lock_row",
    "note_failure",
    "note_intent",
    "read",
    "rename",
    "start_over",
]

COLUMNS: Mapping[str, LiteralString] = {
    "ledger": "text NOT NULL",
    "tag": "text NOT NULL",
    "hash": "text NOT NULL",
    "applied": "integer NOT NULL",
    "total": "integer NOT NULL",
    "prefix": "text NOT NULL",
    "digests": "text",
    "intent": "integer",
    "intent_note": "jsonb",
    "session": "jsonb",
    "failed_statement": "integer",
    "failed_sqlstate": "text",
    "failed_message": "text",
    "started_at": "timestamptz NOT NULL DEFAULT now()",
    "updated_at": "timestamptz NOT NULL DEFAULT now()",
}

#: Existing columns of the table; none if there is no table.
PRESENT = """
SELECT attname FROM pg_catalog.pg_attribute
WHERE attrelid = to_regclass('mosaic.migration_progress') AND attnum > 0 AND NOT attisdropped
"""

#: $1 ledger, $2 tag, $3 hash, $4 statements applied before, $5 statements in all, $6 prefix before, $7 prefix
#: after, $8 digests, $9 statements in the group. Returns the time; fails with 22012 if another runner changed the row.
ADVANCE: LiteralString = """
WITH moved AS (
    INSERT INTO mosaic.migration_progress AS p (ledger, tag, hash, applied, total, prefix, digests)
    SELECT $1, $2, $3, $9, $5, $7, $8 WHERE $4 = 0
    ON CONFLICT (ledger, tag) DO UPDATE SET hash = excluded.hash, applied = $9, total = excluded.total,
        prefix = excluded.prefix, digests = excluded.digests, updated_at = now(), session = NULL,
        failed_statement = NULL, failed_sqlstate = NULL, failed_message = NULL
    WHERE p.applied = 0 AND p.intent IS NULL
    RETURNING 1
), continued AS (
    UPDATE mosaic.migration_progress AS p SET hash = $3, applied = $4 + $9, total = $5, prefix = $7, digests = $8,
        updated_at = now(), failed_statement = NULL, failed_sqlstate = NULL, failed_message = NULL
    WHERE $4 > 0 AND p.ledger = $1 AND p.tag = $2 AND p.applied = $4 AND p.prefix = $6 AND p.intent IS NULL
    RETURNING 1
)
SELECT extract(epoch FROM clock_timestamp())::float8 AS mosaic_step,
    1 / ((SELECT count(*) FROM moved) + (SELECT count(*) FROM continued))
"""

NOTE_INTENT: LiteralString = """
INSERT INTO mosaic.migration_progress AS p (ledger, tag, hash, applied, total, prefix, digests, intent, intent_note)
VALUES (%(ledger)s, %(tag)s, %(hash)s, 0, %(total)s, %(prefix)s, %(digests)s, %(statement)s, %(note)s)
ON CONFLICT (ledger, tag) DO UPDATE SET hash = excluded.hash, total = excluded.total, digests = excluded.digests,
    intent = excluded.intent, intent_note = excluded.intent_note, updated_at = now()
WHERE p.applied = %(statement)s - 1 AND p.prefix = %(prefix)s AND p.intent IS NULL
RETURNING 1
"""

FINISH_INTENT: LiteralString = """
UPDATE mosaic.migration_progress
SET applied = %(through)s, prefix = %(after)s, intent = NULL, intent_note = NULL, updated_at = now(),
    failed_statement = NULL, failed_sqlstate = NULL, failed_message = NULL
WHERE ledger = %(ledger)s AND tag = %(tag)s AND applied = %(statement)s - 1 AND intent = %(statement)s
RETURNING 1
"""

CLEAR_INTENT: LiteralString = """
UPDATE mosaic.migration_progress SET intent = NULL, intent_note = NULL, updated_at = now()
WHERE ledger = %(ledger)s AND tag = %(tag)s AND intent = %(statement)s
RETURNING 1
"""

RENAME: LiteralString = """
UPDATE mosaic.migration_progress SET tag = %(tag)s, updated_at = now() WHERE ledger = %(ledger)s AND tag = %(former)s
"""

START_OVER: LiteralString = """
UPDATE mosaic.migration_progress
SET applied = %(start)s, prefix = %(prefix)s, session = CASE WHEN %(start)s > 0 THEN session END,
    intent = NULL, intent_note = NULL, updated_at = now()
WHERE ledger = %(ledger)s AND tag = %(tag)s AND applied = %(applied)s
"""

LOCK_ROW: LiteralString = """
INSERT INTO mosaic.migration_progress AS p (ledger, tag, hash, applied, total, prefix, digests)
VALUES (%(ledger)s, %(tag)s, %(hash)s, %(total)s, %(total)s, %(prefix)s, %(digests)s)
ON CONFLICT (ledger, tag) DO UPDATE SET hash = excluded.hash, total = excluded.total
"""

NOTE_FAILURE: LiteralString = """
INSERT INTO mosaic.migration_progress AS p
    (ledger, tag, hash, applied, total, prefix, digests, failed_statement, failed_sqlstate, failed_message)
VALUES (%(ledger)s, %(tag)s, %(hash)s, 0, %(total)s, %(prefix)s, %(digests)s, %(statement)s, %(sqlstate)s, %(message)s)
ON CONFLICT (ledger, tag) DO UPDATE SET failed_statement = excluded.failed_statement,
    failed_sqlstate = excluded.failed_sqlstate, failed_message = excluded.failed_message, updated_at = now()
WHERE p.applied = %(applied)s
"""

READ: LiteralString = """
SELECT tag, hash, applied, total, prefix, intent, intent_note::text, session::text,
       failed_statement, failed_sqlstate, failed_message
FROM mosaic.migration_progress WHERE ledger = %s AND (tag = ANY(%s) OR applied < total)
"""

Connection = psycopg.Connection[tuple[object, ...]]


class FencedError(Exception):
    """Another runner changed the progress or the ledger: plan again."""


def advance(values: Sequence[str]) -> str:
    """Return the compare-and-set with *values* (SQL expressions) as a complete statement."""
    return re.sub(r"\$(\d)", lambda match: values[int(match[1]) - 1], ADVANCE) + ";"


def create(connection: Connection) -> None:
    """Create the progress table if it is missing, and add columns that an older version did not have."""
    present = _present_columns(connection)
    if not present:
        columns = ", ".join(f"{name} {kind}" for name, kind in COLUMNS.items())
        connection.execute("CREATE SCHEMA IF NOT EXISTS mosaic")
        statement = f"CREATE TABLE IF NOT EXISTS mosaic.migration_progress ({columns}, PRIMARY KEY (ledger, tag))"
        connection.execute(statement.encode())
        return
    for name, kind in COLUMNS.items():
        if name not in present:
            added = f"ALTER TABLE mosaic.migration_progress ADD COLUMN IF NOT EXISTS {name} {kind}"
            connection.execute(added.encode())


def read(connection: Connection, ledger: LedgerName, tags: Sequence[str]) -> dict[str, ProgressRow]:
    """Return the progress rows of *tags* and of all half-applied migrations. Writes nothing."""
    present = _present_columns(connection)
    if not present:
        return {}
    missing = [name for name in ("intent", "intent_note", "session") if name not in present]
    query = READ
    for name in missing:  # the table was created by an older version and has no such column yet
        query = query.replace(f"{name}::text", "NULL").replace(f" {name},", " NULL,")
    rows = (_row(*columns) for columns in connection.execute(query, (key_of(ledger), list(tags))))
    return {row.tag: row for row in rows}


def digests(connection: Connection, ledger: LedgerName, tag: str) -> str | None:
    """Return the digests of the statements of *tag* as they were applied, None if none are recorded."""
    if "digests" not in _present_columns(connection):
        return None
    query: LiteralString = "SELECT digests FROM mosaic.migration_progress WHERE ledger = %s AND tag = %s"
    row = connection.execute(query, (key_of(ledger), tag)).fetchone()
    return None if row is None or row[0] is None else str(row[0])


def note_intent(
    connection: Connection, ledger: LedgerName, migration: Migration, statement: int, note: Mapping[str, Any]
) -> bool:
    """Record that nontransactional *statement* is about to run; False if another runner changed the progress."""
    values = {
        **_identity(ledger, migration),
        "statement": statement,
        "prefix": prefix_hash(migration.statements, statement - 1),
        "note": json.dumps(note),
    }
    return connection.execute(NOTE_INTENT, values).fetchone() is not None


def finish_intent(
    connection: Connection, ledger: LedgerName, migration: Migration, statement: int, *, through: int | None = None
) -> bool:
    """Record *statement* as applied, and those after it to number *through*.

    After the last one the caller writes the ledger row in the same transaction.
    """
    through = through or statement
    values = {
        **_identity(ledger, migration),
        "statement": statement,
        "through": through,
        "after": prefix_hash(migration.statements, through),
    }
    return connection.execute(FINISH_INTENT, values).fetchone() is not None


def clear_intent(connection: Connection, ledger: LedgerName, migration: Migration, statement: int) -> bool:
    """Clear the intent: the statement did not take effect and will be run again."""
    values = {**_identity(ledger, migration), "statement": statement}
    return connection.execute(CLEAR_INTENT, values).fetchone() is not None


def start_over(connection: Connection, ledger: LedgerName, planned: PlannedMigration, applied: int) -> None:
    """Set back *planned* from *applied* statements to its start; only correct if no effect of the others remains."""
    values = {
        "ledger": key_of(ledger),
        "tag": planned.migration.tag,
        "applied": applied,
        "start": planned.start,
        "prefix": prefix_hash(planned.migration.statements, planned.start),
    }
    connection.execute(START_OVER, values)


def rename(connection: Connection, ledger: LedgerName, migration: Migration, row: ProgressRow | None) -> None:
    """Give the *row* of *migration*, if it has a former tag of it, its present tag (`read_state`)."""
    if row is not None and row.tag != migration.tag:
        values = {"ledger": key_of(ledger), "tag": migration.tag, "former": row.tag}
        connection.execute(RENAME, values)


def lock_row(connection: Connection, ledger: LedgerName, migration: Migration) -> None:
    """Lock the row of a *migration* that has no statements left, until the end of the transaction.

    The row is created if it is missing: without a compare-and-set, its row lock is what fences other runners.
    """
    values = {**_identity(ledger, migration), "prefix": prefix_hash(migration.statements, len(migration.statements))}
    connection.execute(LOCK_ROW, values)


def note_failure(connection: Connection, ledger: LedgerName, migration: Migration, failure: Failure) -> None:
    """Record why a statement failed, for ``storage status``."""
    values = {
        **_identity(ledger, migration),
        "prefix": prefix_hash(migration.statements, 0),
        "statement": failure.number,
        "applied": failure.first - 1,
        "sqlstate": failure.sqlstate,
        "message": failure.message,
    }
    connection.execute(NOTE_FAILURE, values)


def key_of(ledger: LedgerName) -> str:
    """Return the value of column ``ledger`` for the rows of *ledger*."""
    return str(ledger)


def _identity(ledger: LedgerName, migration: Migration) -> dict[str, Any]:
    return {
        "ledger": key_of(ledger),
        "tag": migration.tag,
        "hash": migration.hash,
        "total": len(migration.statements),
        "digests": statement_digests(migration.statements),
    }


def _present_columns(connection: Connection) -> set[str]:
    return {str(name) for (name,) in connection.execute(PRESENT)}


def _row(*columns: object) -> ProgressRow:
    tag, file_hash, applied, total, prefix, intent, note, session, statement, sqlstate, message = columns
    if not isinstance(applied, int) or not isinstance(total, int):
        raise InternalError("mosaic.migration_progress has columns of another type")
    return ProgressRow(
        tag=str(tag),
        hash=str(file_hash),
        applied=applied,
        total=total,
        prefix=str(prefix),
        intent=intent if isinstance(intent, int) else None,
        intent_note=json.loads(str(note)) if note is not None else {},
        session=json.loads(str(session)) if session is not None else {},
        failed_statement=statement if isinstance(statement, int) else None,
        failed_sqlstate=None if sqlstate is None else str(sqlstate),
        failed_message=None if message is None else str(message),
    )
