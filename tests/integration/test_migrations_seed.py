"""Regression tests with the packaged bundles for the migration failures of earlier versions."""

from __future__ import annotations

import dataclasses
import subprocess
from pathlib import Path
from typing import Any

import psycopg
import pytest
from tests.support.engine_marks import not_on_pglite, on_both_engines

import mosaic_gateway
from mosaic_gateway.migrations.bundle import Bundle
from mosaic_gateway.migrations.events import Event, StatementApplied
from mosaic_gateway.migrations.runner import migrate, read_plan

pytestmark = on_both_engines


GATEWAY = Bundle.load("gateway")
STORAGE = Bundle.load("storage")
SQL = Path(mosaic_gateway.__file__).parent / "sql"
#: drizzle-orm 0.30 to 0.45, pg-core/dialect.ts.
DRIZZLE_LEDGER = """
CREATE SCHEMA IF NOT EXISTS "drizzle";
CREATE TABLE IF NOT EXISTS "drizzle"."__drizzle_migrations" (
    id SERIAL PRIMARY KEY,
    hash text NOT NULL,
    created_at bigint
)
"""
NN, NULL = "NO", "YES"
STAMP = "timestamp without time zone"
BETTER_AUTH = {
    "users": [
        ("id", "text", NN, None),
        ("name", "text", NN, None),
        ("email", "text", NN, None),
        ("email_verified", "boolean", NN, "false"),
        ("image", "text", NULL, None),
        ("created_at", STAMP, NN, "now()"),
        ("updated_at", STAMP, NN, "now()"),
        ("role", "text", NULL, None),
        ("banned", "boolean", NULL, "false"),
        ("ban_reason", "text", NULL, None),
        ("ban_expires", STAMP, NULL, None),
    ],
    "sessions": [
        ("id", "text", NN, None),
        ("expires_at", STAMP, NN, None),
        ("token", "text", NN, None),
        ("created_at", STAMP, NN, "now()"),
        ("updated_at", STAMP, NN, None),
        ("ip_address", "text", NULL, None),
        ("user_agent", "text", NULL, None),
        ("user_id", "text", NN, None),
        ("impersonated_by", "text", NULL, None),
    ],
    "accounts": [
        ("id", "text", NN, None),
        ("account_id", "text", NN, None),
        ("provider_id", "text", NN, None),
        ("user_id", "text", NN, None),
        ("access_token", "text", NULL, None),
        ("refresh_token", "text", NULL, None),
        ("id_token", "text", NULL, None),
        ("access_token_expires_at", STAMP, NULL, None),
        ("refresh_token_expires_at", STAMP, NULL, None),
        ("scope", "text", NULL, None),
        ("password", "text", NULL, None),
        ("created_at", STAMP, NN, "now()"),
        ("updated_at", STAMP, NN, None),
    ],
    "verifications": [
        ("id", "text", NN, None),
        ("identifier", "text", NN, None),
        ("value", "text", NN, None),
        ("expires_at", STAMP, NN, None),
        ("created_at", STAMP, NN, "now()"),
        ("updated_at", STAMP, NN, "now()"),
    ],
}
AUTH_CONSTRAINTS = {
    ("accounts", "accounts_pkey", "PRIMARY KEY (id)"),
    ("accounts", "accounts_user_id_users_id_fk", "FOREIGN KEY (user_id) REFERENCES users(id) ON DELETE CASCADE"),
    ("sessions", "sessions_pkey", "PRIMARY KEY (id)"),
    ("sessions", "sessions_token_unique", "UNIQUE (token)"),
    ("sessions", "sessions_user_id_users_id_fk", "FOREIGN KEY (user_id) REFERENCES users(id) ON DELETE CASCADE"),
    ("users", "users_email_unique", "UNIQUE (email)"),
    ("users", "users_pkey", "PRIMARY KEY (id)"),
    ("verifications", "verifications_pkey", "PRIMARY KEY (id)"),
}
FINGERPRINT = {
    "columns": """
        SELECT table_schema, table_name, ordinal_position, column_name, udt_name, is_nullable, column_default,
               character_maximum_length, is_identity, format_type(a.atttypid, a.atttypmod)
        FROM information_schema.columns c
        JOIN pg_attribute a ON a.attrelid = format('%%I.%%I', table_schema, table_name)::regclass
                           AND a.attname = c.column_name
        WHERE table_schema = ANY(%(schemas)s) ORDER BY 1, 2, 3""",
    "indexes": """
        SELECT schemaname, indexname, indexdef, indisvalid FROM pg_indexes
        JOIN pg_index ON indexrelid = format('%%I.%%I', schemaname, indexname)::regclass
        WHERE schemaname = ANY(%(schemas)s) ORDER BY 1, 2""",
    "constraints": """
        SELECT conrelid::regclass::text, conname, convalidated, pg_get_constraintdef(oid)
        FROM pg_constraint WHERE connamespace::regnamespace::text = ANY(%(schemas)s) ORDER BY 1, 2""",
    "enums": """
        SELECT enumtypid::regtype::text, enumlabel FROM pg_enum ORDER BY enumtypid::regtype::text, enumsortorder""",
    "sequences": """
        SELECT schemaname, sequencename, data_type::text, start_value, increment_by FROM pg_sequences
        WHERE schemaname = ANY(%(schemas)s) ORDER BY 1, 2""",
    "extensions": "SELECT extname, extversion FROM pg_extension ORDER BY 1",
}
Connection = psycopg.Connection[tuple[object, ...]]


@pytest.fixture
def second_database(postgres_server: Any) -> str:
    """The conninfo of another empty database."""
    return str(postgres_server.conninfo(postgres_server.create_database()))


def connect(conninfo: str) -> Connection:
    """Open an autocommit connection."""
    return psycopg.connect(conninfo, autocommit=True)


def first(bundle: Bundle, count: int) -> Bundle:
    """Return the bundle with only its first *count* migrations."""
    return dataclasses.replace(bundle, migrations=bundle.migrations[:count])


def statuses(connection: Connection) -> list[object]:
    """Return the labels of ``grant_status`` and then the default of the column that uses it."""
    labels = connection.execute("SELECT enumlabel FROM pg_enum ORDER BY enumsortorder").fetchall()
    default = connection.execute(
        "SELECT column_default FROM information_schema.columns "
        "WHERE table_name = 'federation_grants' AND column_name = 'status'"
    ).fetchall()
    return [value for (value,) in (*labels, *default)]


def ledger_rows(connection: Connection) -> list[tuple[object, ...]]:
    """Return the gateway's ledger."""
    return connection.execute("SELECT id, hash, created_at FROM drizzle.__drizzle_migrations ORDER BY id").fetchall()


def fingerprint(connection: Connection, *schemas: str) -> dict[str, list[tuple[object, ...]]]:
    """Return the objects of the schema by kind."""
    return {
        kind: connection.execute(query.encode(), {"schemas": list(schemas)}).fetchall()
        for kind, query in FINGERPRINT.items()
    }


def psql(bindir: Path, conninfo: str, bundle: Bundle) -> None:
    """Run the bundle's files with ``psql -f``, which treats the markers as comments."""
    files = [f"--file={SQL / bundle.name / f'{migration.tag}.sql'}" for migration in bundle.migrations]
    command = [str(bindir / "psql"), "--no-psqlrc", "--quiet", "--set=ON_ERROR_STOP=1", *files, conninfo]
    subprocess.run(command, check=True, capture_output=True, timeout=30)


def test_a_new_enum_value_is_used_in_a_database_that_has_the_type(database: str) -> None:
    """0009 runs after 0000 to 0008 were applied; in one enclosing transaction PostgreSQL would reject it."""
    with connect(database) as connection:
        migrate(first(GATEWAY, 9), connection)
        assert statuses(connection) == ["active", "revoked", "expired", "'active'::grant_status"]
        script = "BEGIN; " + " ".join(statement.sql for statement in GATEWAY.migrations[9].statements)
        with pytest.raises(psycopg.errors.UnsafeNewEnumValueUsage) as caught:
            connection.execute(script.encode())
        connection.rollback()
        assert caught.value.sqlstate == "55P04"
        report = migrate(GATEWAY, connection)
        assert (report.applied, report.already_applied) == (("0009_pending_grants",), 9)
        assert statuses(connection) == ["active", "revoked", "expired", "pending", "'pending'::grant_status"]


def test_a_migration_with_an_older_when_is_run(database: str) -> None:
    """0008 with its later ``when`` was applied before 0009 was added; 0009 is run, not skipped."""
    with connect(database) as connection:
        migrate(first(GATEWAY, 9), connection)
        newest = connection.execute("SELECT max(created_at) FROM drizzle.__drizzle_migrations").fetchall()
        assert newest == [(1776822435828,)]
        assert GATEWAY.migrations[9].when < 1776822435828
        assert [p.migration.tag for p in read_plan(connection, GATEWAY).pending] == ["0009_pending_grants"]
        migrate(GATEWAY, connection)
        assert ledger_rows(connection)[-1] == (10, GATEWAY.migrations[9].hash, 1745280000000)
        assert read_plan(connection, GATEWAY).up_to_date


def test_both_bundles_are_applied_once_to_an_empty_database(database: str) -> None:
    """Everything is applied in journal order and reported statement by statement; a second run does nothing."""
    seen: list[Event] = []
    with connect(database) as connection:
        for bundle in (GATEWAY, STORAGE):
            report = migrate(bundle, connection, on_event=seen.append)
            assert report.applied == tuple(m.tag for m in bundle.migrations)
            assert report.already_applied == 0
        assert [(s.tag, s.number, s.total) for s in seen if isinstance(s, StatementApplied)] == [
            (m.tag, s.number, len(m.statements))
            for m in (*GATEWAY.migrations, *STORAGE.migrations)
            for s in m.statements
        ]
        assert all(s.seconds >= 0 for s in seen if isinstance(s, StatementApplied))
        before = ledger_rows(connection)
        seen.clear()
        for bundle in (GATEWAY, STORAGE):
            report = migrate(bundle, connection, on_event=seen.append)
            assert (report.applied, report.already_applied) == ((), len(bundle.migrations))
        assert ledger_rows(connection) == before
        assert not seen


def test_the_ledger_is_drizzles(database: str, second_database: str) -> None:
    """The table is created as drizzle-orm creates it, and the rows are those that it would write."""
    with connect(database) as migrated, connect(second_database) as drizzles:
        migrate(GATEWAY, migrated)
        drizzles.execute(DRIZZLE_LEDGER.encode())
        created = fingerprint(migrated, "drizzle")
        expected = fingerprint(drizzles, "drizzle")
        for kind in ("columns", "indexes", "constraints", "sequences"):
            assert created[kind] == expected[kind], kind
        assert ledger_rows(migrated) == [(i, m.hash, m.when) for i, m in enumerate(GATEWAY.migrations, 1)]


def test_a_database_migrated_by_drizzle_is_continued(database: str, postgres_bin: Path) -> None:
    """After drizzle-orm applied 0000 to 0008, only 0009 is run, without progress rows for the others."""
    with connect(database) as connection:
        connection.execute(DRIZZLE_LEDGER.encode())
        psql(postgres_bin, database, first(GATEWAY, 9))
        for migration in GATEWAY.migrations[:9]:
            connection.execute(
                "INSERT INTO drizzle.__drizzle_migrations (hash, created_at) VALUES (%s, %s)",
                (migration.hash, migration.when),
            )
        assert migrate(GATEWAY, connection).applied == ("0009_pending_grants",)
        assert len(ledger_rows(connection)) == 10


@not_on_pglite("compares with a server that has another pgvector")
def test_the_schema_equals_that_of_the_plain_files(database: str, second_database: str, postgres_bin: Path) -> None:
    """Columns, indexes, constraints, enums and sequences are those that psql creates from the files."""
    with connect(database) as migrated, connect(second_database) as plain:
        for bundle in (GATEWAY, STORAGE):
            migrate(bundle, migrated)
            psql(postgres_bin, second_database, bundle)
        expected = fingerprint(plain, "public")
        assert fingerprint(migrated, "public") == expected
        assert all(expected.values())
        schemas = migrated.execute(
            "SELECT nspname::text FROM pg_namespace "
            "WHERE nspname !~ '^pg_' AND nspname <> 'information_schema' ORDER BY 1"
        ).fetchall()
        assert [name for (name,) in schemas] == ["drizzle", "mosaic", "public"]


def test_the_tables_are_better_auths(database: str) -> None:
    """Names, types, nullability and defaults of the four tables are those of better-auth."""
    with connect(database) as connection:
        migrate(GATEWAY, connection)
        for table, columns in BETTER_AUTH.items():
            found = connection.execute(
                "SELECT column_name::text, data_type::text, is_nullable::text, column_default::text "
                "FROM information_schema.columns WHERE table_schema = 'public' AND table_name = %s "
                "ORDER BY ordinal_position",
                (table,),
            ).fetchall()
            assert found == columns, table
        constraints = connection.execute(
            "SELECT conrelid::regclass::text, conname::text, pg_get_constraintdef(oid) FROM pg_constraint "
            "WHERE conrelid::regclass::text = ANY(%s) AND contype <> 'n'",
            (list(BETTER_AUTH),),
        ).fetchall()
        assert set(constraints) == AUTH_CONSTRAINTS
        indexed = connection.execute(
            "SELECT tablename::text, indexdef FROM pg_indexes WHERE indexname LIKE '%%\\_idx' AND tablename = ANY(%s)",
            (list(BETTER_AUTH),),
        ).fetchall()
        assert {(table, str(definition).partition("USING ")[2]) for table, definition in indexed} == {
            ("sessions", "btree (user_id)"),
            ("accounts", "btree (user_id)"),
            ("verifications", "btree (identifier)"),
        }
