"""Failing statements: retained state, error messages, and resumption by the next run."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import psycopg
import pytest
from tests.support.engine_marks import not_on_pglite, on_both_engines

from mosaic_gateway.errors import ExitCode, UsageError
from mosaic_gateway.migrations.bundle import Bundle, LedgerName
from mosaic_gateway.migrations.events import Event, StatementApplied
from mosaic_gateway.migrations.failure import ConnectionLostError, LedgerAccessError, StatementFailedError
from mosaic_gateway.migrations.model import AppliedRow, Migration
from mosaic_gateway.migrations.parse import file_hash, split
from mosaic_gateway.migrations.plan import PrefixChangedError
from mosaic_gateway.migrations.runner import migrate, read_plan, read_state

pytestmark = on_both_engines


Connection = psycopg.Connection[tuple[object, ...]]
MARK = "--> statement-breakpoint\n"
#: The third statement of `HALF` fails until a table `missing` exists.
NOTES = "CREATE TABLE notes (n integer NOT NULL);"
HALF = MARK.join([
    "INSERT INTO notes VALUES (1);\n",
    "INSERT INTO notes VALUES (2);\n",
    "-- the cause\nINSERT INTO missing\n    VALUES (3);\n",
    "INSERT INTO notes VALUES (4);\n",
])  # fmt: skip


def bundle_of(**files: str) -> Bundle:
    """Return a bundle of these tags and texts with decreasing ``when``."""
    migrations = tuple(
        Migration(tag=tag, when=1000 - index, hash=file_hash(text.encode()), statements=split(text))
        for index, (tag, text) in enumerate(files.items())
    )
    return Bundle(name="test", ledger=LedgerName("drizzle", "__drizzle_migrations"), migrations=migrations)


@pytest.fixture
def connection(database: str) -> Iterator[Connection]:
    """An autocommit connection to a fresh database."""
    with psycopg.connect(database, autocommit=True) as opened:
        yield opened


def notes(connection: Connection) -> list[object]:
    """Return the rows that the statements inserted, in order of execution."""
    return [n for (n,) in connection.execute("SELECT n FROM notes ORDER BY ctid")]


def fail(connection: Connection, bundle: Bundle) -> StatementFailedError:
    """Run *bundle* until its failing statement and return the error."""
    with pytest.raises(StatementFailedError) as caught:
        migrate(bundle, connection)
    return caught.value


def test_error_details(connection: Connection) -> None:
    """The error has tag, statement k of n, line, SQLSTATE, PostgreSQL's message, and the applied migrations."""
    error = fail(connection, bundle_of(m0=NOTES, m1=HALF, m2="SELECT 1;"))
    assert (error.code, error.exit_code) == ("STATEMENT_FAILED", ExitCode.MIGRATION)
    assert error.details == {
        "tag": "m1",
        "statement": 3,
        "statements": 4,
        "line": 6,
        "column": 13,
        "sql": "-- the cause\nINSERT INTO missing\n    VALUES (3);",
        "sqlstate": "42P01",
        "pg_message": 'relation "missing" does not exist',
        "pg_hint": "",
        "pg_context": "",
        "applied": ["m0"],
    }
    assert "m1.sql, statement 3 of 4, line 6" in error.message
    assert "42P01" in error.message
    assert "storage migrate" in str(error.hint)
    assert error.applied == ("m0",)


def test_the_line_is_computed_from_the_position(connection: Connection) -> None:
    """Lines are counted from the beginning of the file, also after multi-byte characters."""
    error = fail(connection, bundle_of(m0=f"SELECT 1;\n{MARK}\n\nSELECT 'äöü€🙂',\n  2,\n  nothing;\n"))
    assert error.details["line"] == 7


def test_the_statement_is_shown_with_or_without_a_position(connection: Connection) -> None:
    """A position, or the line in a DO block, is marked; without one the statement's first lines are shown."""
    error = fail(connection, bundle_of(m0=NOTES, m1=HALF))
    assert error.message.endswith("\n  5 | -- the cause\n  6 | INSERT INTO missing\n    |             ^")
    block = "DO $$\nBEGIN\n  INSERT INTO notes VALUES (1);\n  INSERT INTO notes VALUES (NULL);\nEND $$"
    error = fail(connection, bundle_of(m0=NOTES, m2=block))
    assert error.details["line"] == 4
    assert "\n> 4 |   INSERT INTO notes VALUES (NULL);\n  in SQL statement " in error.message
    assert "line 4 at SQL statement" in error.details["pg_context"]
    many = "INSERT INTO notes VALUES\n" + "  (1),\n" * 9 + "  (NULL)"
    error = fail(connection, bundle_of(m0=NOTES, m3=many))
    assert error.message.endswith("\n  6 |   (1),\n    | … 5 more lines")


@not_on_pglite("every client connects as postgres")
def test_a_missing_privilege_on_the_records_is_reported(connection: Connection, database: str) -> None:
    """If the user may not write to the ledger or to the progress table, the error says so."""
    role = f"reader_{connection.info.dbname}"
    connection.execute(f"CREATE ROLE {role} LOGIN; GRANT CREATE ON SCHEMA public TO {role}".encode())
    bundle = bundle_of(m0="SELECT 1;")
    migrate(bundle, connection)
    for right in ("mosaic.migration_progress", "drizzle.__drizzle_migrations"):
        connection.execute(
            f"GRANT USAGE ON SCHEMA drizzle, mosaic TO {role}; GRANT SELECT ON ALL TABLES IN SCHEMA drizzle, mosaic TO"
            f" {role}".encode()
        )
        with (
            psycopg.connect(psycopg.conninfo.make_conninfo(database, user=role), autocommit=True) as reader,
            pytest.raises(LedgerAccessError, match="cannot be written: permission denied") as caught,
        ):
            migrate(bundle_of(m0="SELECT 1;", m1="SELECT 2;"), reader)
        assert caught.value.details["sqlstate"] == "42501"
        connection.execute(f"GRANT ALL ON {right} TO {role}".encode())


def test_postgresqls_own_hint_and_detail_are_passed_on(connection: Connection) -> None:
    """PostgreSQL's hint and the values in its detail are part of the error."""
    error = fail(connection, bundle_of(m0="CREATE TABLE notes (number integer);", m1="SELECT numbr FROM notes;"))
    assert error.details["pg_hint"] == 'Perhaps you meant to reference the column "notes.number".'
    assert str(error.hint).startswith('Perhaps you meant to reference the column "notes.number". ')
    twice = MARK.join(["ALTER TABLE notes ADD UNIQUE (number);", "INSERT INTO notes VALUES (7), (7);"])
    error = fail(connection, bundle_of(m0="CREATE TABLE notes (number integer);", m1=twice))
    assert "Key (number)=(7) already exists." in error.message
    assert (error.details["sqlstate"], error.details["line"]) == ("23505", 2)


def test_a_failed_migration_is_in_the_progress_but_not_in_the_ledger(connection: Connection) -> None:
    """The applied statements are recorded, the failing one is rolled back, and its error can be read later."""
    bundle = bundle_of(m0=NOTES, m1=HALF)
    fail(connection, bundle)
    state = read_state(connection, bundle)
    assert state.applied == (AppliedRow(hash=bundle.migrations[0].hash, when=1000),)
    row = state.progress["m1"]
    assert (row.applied, row.total, row.failed_statement, row.failed_sqlstate) == (2, 4, 3, "42P01")
    assert row.failed_message == 'relation "missing" does not exist'
    assert notes(connection) == [1, 2]


def test_the_next_run_resumes_at_the_failed_statement(connection: Connection) -> None:
    """After the cause is fixed, earlier statements are not run again, and the recorded failure is cleared."""
    bundle = bundle_of(m0=NOTES, m1=HALF, m2="INSERT INTO notes VALUES (5);")
    for _ in range(2):
        fail(connection, bundle)
    assert [(p.migration.tag, p.start) for p in read_plan(connection, bundle).pending] == [("m1", 2), ("m2", 0)]
    connection.execute("CREATE TABLE missing (n integer)")
    seen: list[Event] = []
    report = migrate(bundle, connection, on_event=seen.append)
    assert (report.applied, report.already_applied) == (("m1", "m2"), 1)
    assert [(s.tag, s.number) for s in seen if isinstance(s, StatementApplied)] == [("m1", 3), ("m1", 4), ("m2", 1)]
    assert notes(connection) == [1, 2, 4, 5]
    row = read_state(connection, bundle).progress["m1"]
    assert (row.applied, row.failed_statement, row.failed_sqlstate, row.failed_message) == (4, None, None, None)
    assert [r.hash for r in read_state(connection, bundle).applied] == [m.hash for m in bundle.migrations]


@pytest.mark.parametrize(
    ("tail", "expected"),
    [
        ("INSERT INTO notes VALUES (30);", [1, 2, 30]),
        (MARK.join(["INSERT INTO notes VALUES (30);", "INSERT INTO notes VALUES (40);", "SELECT 1;"]), [1, 2, 30, 40]),
        ("", [1, 2]),
    ],
)
def test_the_tail_of_a_half_applied_migration_can_be_edited(
    connection: Connection, tail: str, expected: list[int]
) -> None:
    """Statements that are not applied yet may be edited, added and removed."""
    fail(connection, bundle_of(m0=NOTES, m1=HALF))
    repaired = bundle_of(m0=NOTES, m1=MARK.join([*HALF.split(MARK)[:2], tail]))
    assert migrate(repaired, connection).applied == ("m1",)
    assert notes(connection) == expected
    assert read_plan(connection, repaired).up_to_date
    assert [r.hash for r in read_state(connection, repaired).applied] == [m.hash for m in repaired.migrations]


def test_a_removed_tail_can_be_added_again(connection: Connection) -> None:
    """A file may still be edited if a run ended after the last statement of a shortened file, before recording it."""
    first, second, *_ = HALF.split(MARK)
    longer = bundle_of(m0=NOTES, m1=MARK.join([first, second, "INSERT INTO notes VALUES (3);"]))
    fail(connection, bundle_of(m0=NOTES, m1=HALF))
    connection.execute("UPDATE mosaic.migration_progress SET total = 2 WHERE tag = 'm1'")
    assert migrate(longer, connection).applied == ("m1",)
    assert notes(connection) == [1, 2, 3]


def test_an_edited_prefix_is_refused_and_nothing_is_written(connection: Connection) -> None:
    """Editing a statement that was already applied is refused."""
    fail(connection, bundle_of(m0=NOTES, m1=HALF))
    before = read_state(connection, bundle_of())
    edited = bundle_of(m0=NOTES, m1=HALF.replace("(2)", "(20)").replace("missing", "notes"))
    with pytest.raises(PrefixChangedError) as caught:
        migrate(edited, connection)
    assert (caught.value.code, caught.value.exit_code) == ("MIGRATION_PREFIX_CHANGED", ExitCode.REFUSED)
    assert read_state(connection, bundle_of()) == before
    assert notes(connection) == [1, 2]


def test_migrations_without_statements_are_recorded(connection: Connection) -> None:
    """An empty file, and one with only comments, are recorded as applied in their turn."""
    bundle = bundle_of(m0="", m1=" \n" + MARK, m2="-- nothing", m3="SELECT 1;")
    assert migrate(bundle, connection).applied == ("m0", "m1", "m2", "m3")
    assert len(read_state(connection, bundle).applied) == 4
    assert read_plan(connection, bundle).up_to_date


def test_effect_progress_and_ledger_row_are_one_transaction(connection: Connection) -> None:
    """The last statement commits with its count and the ledger row; the statement before it commits separately."""
    both = MARK.join(["INSERT INTO notes VALUES (1);", "INSERT INTO notes VALUES (2);"])
    migrate(bundle_of(m0=NOTES, m1=both), connection)
    effects = [xmin for (xmin,) in connection.execute("SELECT xmin::text FROM notes ORDER BY n")]
    counts = connection.execute("SELECT xmin::text FROM mosaic.migration_progress WHERE tag = 'm1'").fetchall()
    ledger = connection.execute("SELECT xmin::text FROM drizzle.__drizzle_migrations WHERE id = 2").fetchall()
    assert counts == ledger == [(effects[1],)]
    assert effects[0] != effects[1]


def test_a_chunk_may_contain_several_statements_and_percent_signs(connection: Connection) -> None:
    """A chunk is sent unchanged; if its second statement fails, its first is rolled back."""
    bundle = bundle_of(m0=f"{NOTES} INSERT INTO notes SELECT 5 % 3 WHERE '%s' LIKE '%%';")
    migrate(bundle, connection)
    assert notes(connection) == [2]
    error = fail(connection, bundle_of(m0=bundle_text(bundle), m1="INSERT INTO notes VALUES (9);\nSELECT 1/0;"))
    assert error.details["sqlstate"] == "22012"
    assert notes(connection) == [2]


def bundle_text(bundle: Bundle) -> str:
    """Return the text of the bundle's only statement."""
    return bundle.migrations[0].statements[0].sql


@not_on_pglite("no backend can be terminated alone")
def test_a_lost_connection_is_reported_and_the_next_run_resumes(database: str) -> None:
    """If the backend is terminated in the middle, committed statements are retained and the others follow."""
    terminate = "SELECT pg_terminate_backend(pg_backend_pid()) WHERE to_regclass('armed') IS NOT NULL;"
    text = MARK.join(["INSERT INTO notes VALUES (1);", terminate, "INSERT INTO notes VALUES (2);"])
    bundle = bundle_of(m0=NOTES, m1=text)
    with psycopg.connect(database, autocommit=True) as other:
        other.execute("CREATE TABLE armed ()")
        for _ in range(5):
            with psycopg.connect(database, autocommit=True) as connection:
                with pytest.raises(ConnectionLostError) as caught:
                    migrate(bundle, connection)
                assert caught.value.exit_code is ExitCode.MIGRATION
                assert caught.value.code == "MIGRATION_CONNECTION_LOST"
        assert read_state(other, bundle).progress["m1"].applied == 1
        other.execute("DROP TABLE armed")
        assert migrate(bundle, other).applied == ("m1",)
        assert notes(other) == [1, 2]


@not_on_pglite("no backend can be terminated alone")
def test_a_connection_that_is_already_closed_is_reported(database: str) -> None:
    """An error in the first query of the run is reported as a lost connection too."""
    with psycopg.connect(database, autocommit=True) as dead, psycopg.connect(database, autocommit=True) as other:
        other.execute("SELECT pg_terminate_backend(%s, 5000)", (dead.info.backend_pid,))
        with pytest.raises(ConnectionLostError):
            migrate(bundle_of(m0=NOTES), dead)


def test_a_connection_with_an_open_transaction_is_refused(database: str) -> None:
    """It would enclose all migrations in one transaction, in which new enum values cannot be used."""
    with psycopg.connect(database) as connection:
        with pytest.raises(UsageError, match="autocommit"):
            migrate(bundle_of(m0=NOTES), connection)
        connection.autocommit = True
        connection.execute("BEGIN")
        with pytest.raises(UsageError, match="open transaction"):
            migrate(bundle_of(m0=NOTES), connection)


def test_a_missing_create_privilege_is_reported(postgres_server: Any) -> None:
    """The error is a `LedgerAccessError` with the SQLSTATE, and nothing is written."""
    name = postgres_server.create_database()
    with postgres_server.connect(name) as admin:
        admin.execute("DO $$ BEGIN CREATE ROLE poor LOGIN; EXCEPTION WHEN duplicate_object THEN NULL; END $$")
        with postgres_server.connect(name, user="poor") as connection:
            with pytest.raises(LedgerAccessError, match="permission denied") as caught:
                migrate(bundle_of(m0=NOTES), connection)
            assert caught.value.details["sqlstate"] == "42501"
        found = admin.execute("SELECT count(*) FROM pg_namespace WHERE nspname IN ('drizzle', 'mosaic')").fetchone()
        assert found == (0,)


def test_existing_tables_need_no_create_privilege(postgres_server: Any) -> None:
    """Existing tables are not created again, which would need the CREATE privilege on the database."""
    name = postgres_server.create_database()
    with postgres_server.connect(name) as admin:
        admin.execute("DO $$ BEGIN CREATE ROLE modest LOGIN; EXCEPTION WHEN duplicate_object THEN NULL; END $$")
        migrate(bundle_of(m0=NOTES), admin)
        admin.execute("ALTER TABLE drizzle.__drizzle_migrations OWNER TO modest")
        admin.execute("ALTER TABLE mosaic.migration_progress OWNER TO modest")
        admin.execute("GRANT USAGE ON SCHEMA drizzle, mosaic TO modest; GRANT INSERT ON notes TO modest")
        with postgres_server.connect(name, user="modest") as connection:
            report = migrate(bundle_of(m0=NOTES, m1="INSERT INTO notes VALUES (1);"), connection)
        assert report.applied == ("m1",)
        assert notes(admin) == [1]
