"""Nontransactional statements, session settings, and locks on a real server."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator

import psycopg
import pytest
from tests.support.engine_marks import not_on_pglite, on_both_engines

from mosaic_gateway.migrations import progress
from mosaic_gateway.migrations.bundle import LEDGERS, Bundle
from mosaic_gateway.migrations.events import Event, StatementApplied, StatementRecovered, StatementRetried
from mosaic_gateway.migrations.failure import ChunkRefusedError, StatementFailedError, UndecidedError
from mosaic_gateway.migrations.model import Migration
from mosaic_gateway.migrations.parse import file_hash, split
from mosaic_gateway.migrations.plan import SessionLostError
from mosaic_gateway.migrations.runner import migrate, read_plan, read_state

pytestmark = on_both_engines


Connection = psycopg.Connection[tuple[object, ...]]
MARK = "\n--> statement-breakpoint\n"
TABLE = "CREATE TABLE t (a integer, b integer)"


def bundle_of(*files: tuple[str, ...]) -> Bundle:
    """Return a bundle with a migration for each tuple of statements."""
    migrations = []
    for number, statements in enumerate(files):
        text = MARK.join(statements)
        migrations.append(
            Migration(tag=f"m{number}", when=number + 1, hash=file_hash(text.encode()), statements=split(text))
        )
    return Bundle(name="gateway", ledger=LEDGERS["gateway"], migrations=tuple(migrations))


@pytest.fixture
def connection(database: str) -> Iterator[Connection]:
    """An open connection to an empty database."""
    with psycopg.connect(database, autocommit=True) as opened:
        yield opened


def record_intent(connection: Connection, bundle: Bundle, number: int, note: dict[str, object]) -> None:
    """Write the records of a runner killed in statement *number* of the last migration."""
    migration = bundle.migrations[-1]
    assert progress.note_intent(connection, bundle.ledger, migration, number, note)


def indexes(connection: Connection) -> list[tuple[object, ...]]:
    """Return name and validity of each index."""
    return connection.execute(
        "SELECT relname, indisvalid FROM pg_index JOIN pg_class ON oid = indexrelid"
        " WHERE relnamespace = 'public'::regnamespace ORDER BY 1"
    ).fetchall()


CONCURRENTLY = (TABLE, "CREATE INDEX CONCURRENTLY t_a ON t (a)", "INSERT INTO t VALUES (1, 1)")


def test_a_concurrent_index_between_ordinary_statements(connection: Connection) -> None:
    """It is detected by PostgreSQL's error, runs alone, and the file continues."""
    seen: list[Event] = []
    report = migrate(bundle_of(CONCURRENTLY), connection, on_event=seen.append)
    assert report.applied == ("m0",)
    assert [e.number for e in seen if isinstance(e, StatementApplied)] == [1, 2, 3]
    assert indexes(connection) == [("t_a", True)]
    row = read_state(connection, bundle_of(CONCURRENTLY)).progress["m0"]
    assert (row.applied, row.intent) == (3, None)


@pytest.mark.parametrize("left", ["nothing", "valid", "invalid"])
@pytest.mark.parametrize("sql", ["CREATE INDEX CONCURRENTLY t_a ON t (a)", "CREATE UNIQUE INDEX CONCURRENTLY ON t (a)"])
def test_an_index_whose_runner_was_killed(connection: Connection, sql: str, left: str) -> None:
    """A missing index is created, a valid one accepted, an invalid one dropped and created, with or without a name."""
    bundle = bundle_of((TABLE,), (sql, "INSERT INTO t VALUES (1, 1)"))
    migrate(bundle_of((TABLE,)), connection)
    progress.create(connection)
    record_intent(connection, bundle, 1, {"existed": False, "indexes": []})
    if left != "nothing":
        connection.execute(sql.encode())
    if left == "invalid":
        connection.execute("UPDATE pg_index SET indisvalid = false WHERE indrelid = 't'::regclass")
    seen: list[Event] = []
    migrate(bundle, connection, on_event=seen.append)
    verdicts = [e.verdict for e in seen if isinstance(e, StatementRecovered)]
    assert verdicts == ["applied" if left == "valid" else "run"]
    found = indexes(connection)
    assert len(found) == 1
    assert found[0][1] is True
    assert connection.execute("SELECT count(*) FROM t").fetchone() == (1,)
    assert read_plan(connection, bundle).up_to_date


def test_a_failed_concurrent_index_is_created_by_the_next_run(connection: Connection) -> None:
    """PostgreSQL leaves an invalid index; after the cause is fixed, the next run drops it and creates a valid one."""
    bundle = bundle_of(
        (TABLE, "INSERT INTO t VALUES (1, 1), (1, 2)"), ("CREATE UNIQUE INDEX CONCURRENTLY t_a ON t (a)",)
    )
    with pytest.raises(StatementFailedError, match="23505") as failed:
        migrate(bundle, connection)
    assert "rolled back" not in str(failed.value.hint)
    assert indexes(connection) == [("t_a", False)]
    connection.execute("DELETE FROM t WHERE b = 2")
    assert migrate(bundle, connection).applied == ("m1",)
    assert indexes(connection) == [("t_a", True)]


def test_statements_that_can_be_run_again(connection: Connection) -> None:
    """VACUUM, REINDEX CONCURRENTLY and DISCARD ALL are run again."""
    for number, sql in enumerate(("VACUUM t", "REINDEX INDEX CONCURRENTLY t_pkey", "DISCARD ALL")):
        first = ("CREATE TABLE IF NOT EXISTS t (a integer PRIMARY KEY)", f"SELECT {number}")
        bundle = bundle_of(first, (sql, "SELECT 1"))
        connection.execute("DROP SCHEMA IF EXISTS drizzle, mosaic CASCADE")
        migrate(bundle_of(first), connection)
        record_intent(connection, bundle, 1, {})
        assert migrate(bundle, connection).applied == ("m1",)


def test_a_database_is_created_once(connection: Connection) -> None:
    """CREATE DATABASE counts as applied if the database exists and did not exist before."""
    name = f"created_{connection.info.dbname}"
    bundle = bundle_of(("SELECT 1",), (f"CREATE DATABASE {name}", "SELECT 2"))
    migrate(bundle_of(("SELECT 1",)), connection)
    record_intent(connection, bundle, 1, {"existed": False})
    connection.execute(f"CREATE DATABASE {name}".encode())
    assert migrate(bundle, connection).applied == ("m1",)


def test_an_undecidable_statement_stops_the_run(connection: Connection) -> None:
    """A statement that cannot be probed stops every run until it is resolved."""
    bundle = bundle_of(("SELECT 1",), ("CALL unknown_effect()", "SELECT 2"))
    migrate(bundle_of(("SELECT 1",)), connection)
    record_intent(connection, bundle, 1, {})
    for _ in range(2):
        with pytest.raises(UndecidedError, match="CALL unknown_effect"):
            migrate(bundle, connection)
    assert read_state(connection, bundle).progress["m1"].intent == 1


@not_on_pglite("refused unless the runner is alone: test_pglite_session.py")
def test_settings_of_earlier_statements_are_restored_on_resume(connection: Connection, database: str) -> None:
    """search_path, a customized option and the role are restored; the next file starts with a clean session."""
    role = f"limited_{connection.info.dbname}"
    connection.execute(f"CREATE ROLE {role}; CREATE SCHEMA s; GRANT ALL ON SCHEMA s TO {role}".encode())
    first = (
        "SET search_path = s",
        "SET my.flag = 'on'",
        f"SET ROLE {role}",
        "CREATE TABLE here AS SELECT current_setting('my.flag') AS flag, current_user::text AS who",
        "SELECT 1 / (SELECT count(*) FROM public.missing)",
        "INSERT INTO here VALUES (current_setting('my.flag'), current_user)",
    )
    bundle = bundle_of(first, ("CREATE TABLE after_it AS SELECT current_setting('my.flag', true) AS flag",))
    with pytest.raises(StatementFailedError) as failed:
        migrate(bundle, connection)
    assert failed.value.failure.number == 5
    connection.execute("CREATE TABLE public.missing AS SELECT 1; GRANT SELECT ON public.missing TO public")
    with psycopg.connect(database, autocommit=True) as fresh:
        assert migrate(bundle, fresh).applied == ("m0", "m1")
        assert fresh.execute("SELECT flag, who FROM s.here").fetchall() == [("on", role)] * 2
        assert fresh.execute("SELECT flag FROM public.after_it").fetchone() in {(None,), ("",)}
        assert fresh.execute("SELECT current_user").fetchone() != (role,)


@not_on_pglite("refused unless the runner is alone: test_pglite_session.py")
def test_a_file_with_temporary_objects_is_run_again_or_refused(connection: Connection, database: str) -> None:
    """A file without permanent effects so far is run again; otherwise it is refused with the reason."""
    temporary = "CREATE TEMP TABLE scratch (n integer)"
    repeatable = bundle_of((temporary, "INSERT INTO missing VALUES (1)"))
    with pytest.raises(StatementFailedError):
        migrate(repeatable, connection)
    connection.execute("CREATE TABLE missing (n integer)")
    with psycopg.connect(database, autocommit=True) as fresh:
        assert migrate(repeatable, fresh).applied == ("m0",)
        permanent = bundle_of(
            (temporary, "INSERT INTO missing VALUES (1)"),
            ("CREATE TABLE stays (n integer)", temporary, "SELECT * FROM gone, scratch"),
        )
        with pytest.raises(StatementFailedError):
            migrate(permanent, fresh)
    with (
        psycopg.connect(database, autocommit=True) as other,
        pytest.raises(SessionLostError, match="temporary objects"),
    ):
        migrate(permanent, other)


CHOOSES = (
    "CREATE FUNCTION public.choose(s text) RETURNS void LANGUAGE sql AS 'SELECT set_config(''search_path'', s, false)'"
)


@pytest.mark.parametrize("sql", ["DO $$ BEGIN SET search_path = s; END $$", "SELECT public.choose('s')"])
def test_settings_changed_by_blocks_and_functions_are_restored_on_resume(
    connection: Connection, database: str, sql: str
) -> None:
    """Settings changed by a DO block or a function are restored, and end with their file."""
    bundle = bundle_of(
        ("CREATE SCHEMA s", CHOOSES),
        (sql, "SELECT 1 / count(*) FROM public.cause", "CREATE TABLE here (n integer)"),
        ("CREATE TABLE after_it (n integer)",),
    )
    with pytest.raises(StatementFailedError):
        migrate(bundle, connection)
    connection.execute("CREATE TABLE public.cause AS SELECT 1")
    with psycopg.connect(database, autocommit=True) as fresh:
        assert migrate(bundle, fresh).applied == ("m1", "m2")
    found = connection.execute(
        "SELECT to_regclass('s.here') IS NULL, to_regclass('public.after_it') IS NULL"
    ).fetchone()
    assert found == (False, False)


@not_on_pglite("refused unless the runner is alone: test_pglite_session.py")
def test_rows_moved_to_a_temporary_table_are_not_lost_silently(connection: Connection, database: str) -> None:
    """A file that deleted rows is not run again: there would be no rows to move the second time."""
    moved = "CREATE TEMP TABLE moved AS WITH gone AS (DELETE FROM old RETURNING *) SELECT * FROM gone"
    bundle = bundle_of(
        ("CREATE TABLE old AS SELECT 1 AS n", "CREATE TABLE new (n integer)"),
        (moved, "INSERT INTO new SELECT n FROM moved, missing"),
    )
    with pytest.raises(StatementFailedError):
        migrate(bundle, connection)
    connection.execute("CREATE TABLE missing AS SELECT 1 AS m")
    with psycopg.connect(database, autocommit=True) as fresh, pytest.raises(SessionLostError, match="statement 1"):
        migrate(bundle, fresh)


@not_on_pglite("refused unless the runner is alone: test_pglite_session.py")
def test_a_file_that_filled_a_temporary_table_can_be_run_again(connection: Connection, database: str) -> None:
    """The rows end with the session; remaining statements that need no temporary object are resumed in any case."""
    temporary = ("CREATE TEMP TABLE scratch (n integer)", "INSERT INTO scratch VALUES (7)")
    again = (*temporary, "INSERT INTO missing SELECT n FROM scratch")
    with pytest.raises(StatementFailedError):
        migrate(bundle_of(again), connection)
    connection.execute("CREATE TABLE missing (n integer)")
    with psycopg.connect(database, autocommit=True) as fresh:
        assert migrate(bundle_of(again), fresh).applied == ("m0",)
        assert fresh.execute("SELECT n FROM missing").fetchall() == [(7,)]
        permanent = (*temporary, "CREATE TABLE stays (n integer)", "INSERT INTO elsewhere VALUES (1)")
        with pytest.raises(StatementFailedError):
            migrate(bundle_of(again, permanent), fresh)
    connection.execute("CREATE TABLE elsewhere (n integer)")
    with psycopg.connect(database, autocommit=True) as fresh:
        assert migrate(bundle_of(again, permanent), fresh).applied == ("m1",)


@pytest.mark.parametrize(
    "word", ["SET SESSION AUTHORIZATION a", "ROLLBACK", "ABORT", "PREPARE TRANSACTION 'a'", "COMMIT PREPARED 'a'"]
)
def test_transaction_control_is_refused_before_anything_runs(connection: Connection, word: str) -> None:
    """The statements before it are not run either."""
    with pytest.raises(ChunkRefusedError, match="line"):
        migrate(bundle_of((TABLE,), ("SELECT 1", f"SELECT 2; {word}; SELECT 3")), connection)
    assert connection.execute("SELECT to_regclass('t')").fetchone() == (None,)


@not_on_pglite("PGlite has one session: no other session can hold a lock or a snapshot")
def test_a_statement_is_retried_until_it_gets_its_lock(connection: Connection, database: str) -> None:
    """The statement is rolled back and retried, and succeeds when the other session releases the lock."""
    connection.execute(TABLE.encode())
    locked = threading.Event()
    seen: list[Event] = []

    def hold() -> None:
        with psycopg.connect(database) as other:
            other.execute("LOCK TABLE t")
            locked.set()
            time.sleep(0.6)

    holder = threading.Thread(target=hold)
    holder.start()
    assert locked.wait(5)
    bundle = bundle_of(("SELECT 1", "ALTER TABLE t ADD COLUMN c integer", "SELECT 2"))
    migrate(bundle, connection, statement_lock_timeout=0.1, on_event=seen.append)
    holder.join()
    assert [e.sqlstate for e in seen if isinstance(e, StatementRetried)][:1] == ["55P03"]
    assert read_plan(connection, bundle).up_to_date


@pytest.mark.parametrize(
    "sql", ["SELECT 'open", "SELECT $$ open", "SELECT 1 /* open", 'SELECT "open', "SELEC 1", "COPY t FROM STDIN"]
)
def test_an_invalid_statement_fails_alone(connection: Connection, sql: str) -> None:
    """It does not affect the statements after it, and the statements before it are applied."""
    bundle = bundle_of((TABLE, "INSERT INTO t VALUES (1, 1)", sql, "INSERT INTO t VALUES (2, 2) -- '$$*/\""))
    with pytest.raises(StatementFailedError) as failed:
        migrate(bundle, connection)
    assert failed.value.failure.number == 3
    assert connection.execute("SELECT a FROM t").fetchall() == [(1,)]


@pytest.mark.parametrize(
    "text", ["SELECT 1;\nCREATE INDEX CONCURRENTLY i ON t (a)", "VACUUM t; INSERT INTO t VALUES (1)"]
)
def test_several_statements_in_one_chunk_are_to_be_divided(connection: Connection, text: str) -> None:
    """PostgreSQL runs the statements of one message in a transaction; the hint says what to put between them."""
    bundle = bundle_of((TABLE,), (text,))
    for _ in range(2):
        with pytest.raises(StatementFailedError) as failed:
            migrate(bundle, connection)
        assert "Put the line --> statement-breakpoint between them" in str(failed.value.hint)
    assert indexes(connection) == []
    assert connection.execute("SELECT count(*) FROM t").fetchone() == (0,)
