"""The contents of a database as comparable values: its schema, and every row of every table."""

from __future__ import annotations

from typing import LiteralString

import psycopg

Connection = psycopg.Connection[tuple[object, ...]]
Fingerprint = dict[str, list[tuple[object, ...]]]

USER_SCHEMAS: LiteralString = "nspname NOT LIKE 'pg\\_%' AND nspname <> 'information_schema'"
CATALOG: dict[str, LiteralString] = {
    "relations": "SELECT nspname, relname, relkind::text FROM pg_class c JOIN pg_namespace n ON n.oid = relnamespace",
    "columns": "SELECT nspname, relname, attname, format_type(atttypid, atttypmod), attnotnull,"
    " pg_get_expr(adbin, adrelid) FROM pg_attribute a JOIN pg_class c ON c.oid = attrelid"
    " JOIN pg_namespace n ON n.oid = relnamespace LEFT JOIN pg_attrdef d ON adrelid = attrelid AND adnum = attnum",
    "indexes": "SELECT nspname, relname, pg_get_indexdef(indexrelid), indisvalid, indisready FROM pg_index i"
    " JOIN pg_class c ON c.oid = indexrelid JOIN pg_namespace n ON n.oid = relnamespace",
    "constraints": "SELECT nspname, conname, conrelid::regclass::text, pg_get_constraintdef(c.oid), convalidated"
    " FROM pg_constraint c JOIN pg_namespace n ON n.oid = connamespace",
    "enums": "SELECT nspname, typname, enumlabel FROM pg_enum JOIN pg_type t ON t.oid = enumtypid"
    " JOIN pg_namespace n ON n.oid = typnamespace",
    "partitions": "SELECT nspname, c.relname, inhparent::regclass::text, inhdetachpending FROM pg_inherits"
    " JOIN pg_class c ON c.oid = inhrelid JOIN pg_namespace n ON n.oid = relnamespace",
    "extensions": "SELECT nspname, extname FROM pg_extension JOIN pg_namespace n ON n.oid = extnamespace",
}
#: Sequence numbers, which rolled-back transactions consume, and times are left out of the comparison.
ROWS: dict[str, LiteralString] = {
    "drizzle.__drizzle_migrations": "SELECT hash, created_at FROM drizzle.__drizzle_migrations ORDER BY id",
    "drizzle.__mosaic_storage_migrations": "SELECT hash, created_at FROM drizzle.__mosaic_storage_migrations"
    " ORDER BY id",
    "mosaic.migration_progress": "SELECT ledger, tag, hash, applied, total, prefix, digests, intent, intent_note,"
    " session::text, failed_statement FROM mosaic.migration_progress ORDER BY 1, 2",
}


def fingerprint(connection: Connection) -> Fingerprint:
    """Return the contents of the database of *connection*."""
    result: Fingerprint = {}
    for name, query in CATALOG.items():
        rows = connection.execute(f"{query} WHERE {USER_SCHEMAS}".encode())
        result[name] = sorted((row for row in rows if not str(row[1]).startswith("pg_")), key=repr)
    tables = [f"{schema}.{name}" for schema, name, kind in result["relations"] if kind in {"r", "p"}]
    for table in tables:
        contents = ROWS.get(table, f"SELECT t::text FROM {table} AS t ORDER BY 1")
        result[table] = connection.execute(contents.encode()).fetchall()
    return result


def differences(found: Fingerprint, expected: Fingerprint) -> list[str]:
    """Return a line for each difference between two fingerprints; empty if they are equal."""
    lines = []
    for name in sorted(found.keys() | expected.keys()):
        actual, wanted = found.get(name, []), expected.get(name, [])
        lines += [f"{name}: unexpected: {row}" for row in actual if row not in wanted]
        lines += [f"{name}: missing: {row}" for row in wanted if row not in actual]
        if not lines and actual != wanted:
            lines.append(f"{name}: {len(actual)} rows instead of {len(wanted)}, or in another order")
    return lines
