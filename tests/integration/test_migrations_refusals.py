"""Refusals come before any write, and reading writes nothing."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator

import psycopg
import pytest
from psycopg import sql
from tests.support.engine_marks import on_both_engines

from mosaic_gateway.errors import ExitCode, RefusedError
from mosaic_gateway.migrations.bundle import Bundle
from mosaic_gateway.migrations.model import LedgerState
from mosaic_gateway.migrations.runner import migrate, read_plan, read_state

pytestmark = on_both_engines


Connection = psycopg.Connection[tuple[object, ...]]
GATEWAY = Bundle.load("gateway")
STORAGE = Bundle.load("storage")
#: Every relation of every user schema, with its columns.
CATALOG = """
SELECT n.nspname::text, c.relname::text, c.relkind::text, c.xmin::text, a.attname::text, a.atttypid::regtype::text
FROM pg_namespace n LEFT JOIN pg_class c ON c.relnamespace = n.oid LEFT JOIN pg_attribute a ON a.attrelid = c.oid
WHERE n.nspname !~ '^pg_(toast|catalog|temp)' AND n.nspname <> 'information_schema' ORDER BY 1, 2, a.attnum
"""
Dump = dict[str, list[tuple[object, ...]]]


@pytest.fixture
def connection(database: str) -> Iterator[Connection]:
    """An autocommit connection to a fresh database."""
    with psycopg.connect(database, autocommit=True) as opened:
        yield opened


def dump(connection: Connection) -> Dump:
    """Return the catalog of the user schemas and every row version of the records, so that rewrites are detected."""
    contents = {"catalog": connection.execute(CATALOG.encode()).fetchall()}
    for schema, table in (
        ("drizzle", "__drizzle_migrations"),
        ("drizzle", "__mosaic_storage_migrations"),
        ("mosaic", "migration_progress"),
    ):
        name = sql.Identifier(schema, table)
        if connection.execute("SELECT to_regclass(%s)", (name.as_string(connection),)).fetchone() != (None,):
            query = sql.SQL("SELECT xmin::text, ctid::text, t.* FROM {} t ORDER BY ctid").format(name)
            contents[table] = connection.execute(query).fetchall()
    return contents


def edited(bundle: Bundle, tag: str) -> Bundle:
    """Return *bundle* after an edit of the migration *tag*."""
    migrations = (dataclasses.replace(m, hash="e" * 64) if m.tag == tag else m for m in bundle.migrations)
    return dataclasses.replace(bundle, migrations=tuple(migrations))


def without_last(bundle: Bundle) -> Bundle:
    """Return *bundle* of the previous version."""
    return dataclasses.replace(bundle, migrations=bundle.migrations[:-1])


def refused(connection: Connection, bundle: Bundle) -> RefusedError:
    """Return the error with which both plan and run refuse *bundle*; assert that nothing was written."""
    before = dump(connection)
    with pytest.raises(RefusedError) as planned:
        read_plan(connection, bundle)
    with pytest.raises(RefusedError) as run:
        migrate(bundle, connection)
    assert dump(connection) == before
    assert planned.value.to_dict() == run.value.to_dict()
    assert run.value.exit_code is ExitCode.REFUSED
    assert str(run.value.hint).startswith("Nothing was written.")
    return run.value


def test_an_edited_applied_migration_is_refused(connection: Connection) -> None:
    """The error names the edited migration, with and without pending migrations."""
    migrate(without_last(GATEWAY), connection)
    error = refused(connection, edited(GATEWAY, "0003_api_tokens"))
    assert error.code == "MIGRATION_DRIFT"
    assert "0003_api_tokens" in error.message
    assert refused(connection, edited(without_last(GATEWAY), "0008_federation")).details["tags"] == ["0008_federation"]


def test_a_database_newer_than_the_package_is_refused(connection: Connection) -> None:
    """The previous version reports that a later one migrated the database, although 0009 is older than 0008."""
    migrate(GATEWAY, connection)
    error = refused(connection, without_last(GATEWAY))
    assert error.code == "DATABASE_NEWER"
    assert "upgrade" in str(error.hint)
    assert error.details["rows"] == [{"hash": GATEWAY.migrations[9].hash, "when": 1745280000000}]


def test_a_database_several_versions_newer_is_refused(connection: Connection) -> None:
    """The error is the same with several unknown migrations."""
    migrate(GATEWAY, connection)
    older = dataclasses.replace(GATEWAY, migrations=GATEWAY.migrations[:4])
    error = refused(connection, older)
    assert (error.code, len(error.details["rows"])) == ("DATABASE_NEWER", 6)


def test_an_unknown_row_is_refused(connection: Connection) -> None:
    """A ledger with rows of another application is not written to."""
    connection.execute("CREATE SCHEMA drizzle")
    connection.execute(
        "CREATE TABLE drizzle.__drizzle_migrations (id SERIAL PRIMARY KEY, hash text NOT NULL, created_at bigint)"
    )
    connection.execute("INSERT INTO drizzle.__drizzle_migrations (hash, created_at) VALUES ('abc', 1700000000000)")
    error = refused(connection, GATEWAY)
    assert error.code == "LEDGER_UNKNOWN_ROW"
    assert error.details["rows"] == [{"hash": "abc", "when": 1700000000000}]
    connection.execute("UPDATE drizzle.__drizzle_migrations SET created_at = NULL")
    assert refused(connection, GATEWAY).code == "LEDGER_UNKNOWN_ROW"


def test_a_refused_bundle_does_not_stop_the_other(connection: Connection) -> None:
    """Gateway and storage have separate ledgers."""
    migrate(GATEWAY, connection)
    refused(connection, edited(GATEWAY, "0000_auth"))
    assert migrate(STORAGE, connection).applied == ("0000_documents",)
    assert read_plan(connection, GATEWAY).up_to_date


def test_reading_an_empty_database_writes_nothing(connection: Connection) -> None:
    """Neither plan nor state creates a schema; both work in a read-only transaction."""
    before = dump(connection)
    connection.execute("SET default_transaction_read_only = on")
    for bundle in (GATEWAY, STORAGE):
        assert read_state(connection, bundle) == LedgerState()
        plan = read_plan(connection, bundle)
        assert [planned.migration for planned in plan.pending] == list(bundle.migrations)
        assert (plan.applied, plan.up_to_date) == (0, False)
    assert dump(connection) == before
    assert {row[0] for row in before["catalog"]} == {"public"}


def test_a_run_with_nothing_to_do_writes_nothing(connection: Connection) -> None:
    """Reading and running an up-to-date database works in read-only transactions."""
    for bundle in (GATEWAY, STORAGE):
        migrate(bundle, connection)
    before = dump(connection)
    connection.execute("SET default_transaction_read_only = on")
    for bundle in (GATEWAY, STORAGE):
        assert read_plan(connection, bundle).up_to_date
        assert migrate(bundle, connection).applied == ()
    assert dump(connection) == before
