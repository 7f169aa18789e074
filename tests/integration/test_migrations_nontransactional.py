"""Statements that cannot run in a transaction, session settings, and locks, on a real server."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator

import psycopg
import pytest

from mosaic_gateway.migrations import progress
from mosaic_gateway.migrations.bundle import LEDGERS, Bundle
from mosaic_gateway.migrations.events import Event, StatementApplied, StatementRecovered, StatementRetried
from mosaic_gateway.migrations.failure import ChunkRefusedError, StatementFailedError, UndecidedError
from mosaic_gateway.migrations.model import Migration
from mosaic_gateway.migrations.parse import file_hash, split
from mosaic_gateway.migrations.plan import SessionLostError
from mosaic_gateway.migrations.runner import migrate, read_plan, read_state

Connection = psycopg.Connection[tuple[object, ...]]
MARK = "\n--> statement-breakpoint\n"
TABLE = "CREATE TABLE t (a integer, b integer)"


def bundle_of(*files: tuple[str, ...]) -> Bundle:
    """Return a bundle with a migration for each row of statements."""
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


def intend(connection: Connection, bundle: Bundle, number: int, note: dict[str, object]) -> None:
    """Leave what a runner leaves that is killed in statement *number* of the last migration."""
    migration = bundle.migrations[-1]
    assert progress.note_intent(connection, bundle.ledger, migration, number, note)


def indexes(connection: Connection) -> list[tuple[object, ...]]:
    """Return name and validity of each index."""
    return connection.execute(
        "SELECT relname, indisvalid FROM pg_index JOIN pg_class ON oid = indexrelid"
        " WHERE relnamespace = 'public'::regnamespace ORDER BY 1"
    ).fetchall()


CONCURRENTLY = (TABLE, "CREATE INDEX CONCURRENTLY t_a ON t (a)", "INSERT INTO t VALUES (1, 1)")


def test_a_concurrent_index_is_made_between_ordinary_statements(connection: Connection) -> None:
    """It is found by PostgreSQL's refusal, runs alone, and the file goes on."""
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
    """Absent: made. Valid: adopted. Invalid: dropped and made. Named or not, there is one valid index in the end."""
    bundle = bundle_of((TABLE,), (sql, "INSERT INTO t VALUES (1, 1)"))
    migrate(bundle_of((TABLE,)), connection)
    progress.create(connection)
    intend(connection, bundle, 1, {"existed": False, "indexes": []})
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


def test_a_failing_concurrent_index_can_be_made_once_the_cause_is_gone(connection: Connection) -> None:
    """PostgreSQL leaves an invalid index behind; the next run drops it by itself."""
    bundle = bundle_of(
        (TABLE, "INSERT INTO t VALUES (1, 1), (1, 2)"), ("CREATE UNIQUE INDEX CONCURRENTLY t_a ON t (a)",)
    )
    with pytest.raises(StatementFailedError, match="23505") as failed:
        migrate(bundle, connection)
    assert "rolled back" not in failed.value.hint
    assert indexes(connection) == [("t_a", False)]
    connection.execute("DELETE FROM t WHERE b = 2")
    assert migrate(bundle, connection).applied == ("m1",)
    assert indexes(connection) == [("t_a", True)]


def test_statements_that_can_be_run_again(connection: Connection) -> None:
    """VACUUM, REINDEX CONCURRENTLY and DISCARD ALL are just run again."""
    for number, sql in enumerate(("VACUUM t", "REINDEX INDEX CONCURRENTLY t_pkey", "DISCARD ALL")):
        first = ("CREATE TABLE IF NOT EXISTS t (a integer PRIMARY KEY)", f"SELECT {number}")
        bundle = bundle_of(first, (sql, "SELECT 1"))
        connection.execute("DROP SCHEMA IF EXISTS drizzle, mosaic CASCADE")
        migrate(bundle_of(first), connection)
        intend(connection, bundle, 1, {})
        assert migrate(bundle, connection).applied == ("m1",)


def test_a_database_is_made_once(connection: Connection) -> None:
    """CREATE DATABASE is adopted when it is there and was not before."""
    name = f"made_{connection.info.dbname}"
    bundle = bundle_of(("SELECT 1",), (f"CREATE DATABASE {name}", "SELECT 2"))
    migrate(bundle_of(("SELECT 1",)), connection)
    intend(connection, bundle, 1, {"existed": False})
    connection.execute(f"CREATE DATABASE {name}".encode())
    assert migrate(bundle, connection).applied == ("m1",)


def test_what_nobody_can_know_is_asked(connection: Connection) -> None:
    """A statement of unknown effect stops the run with the question, again and again, until it is answered."""
    bundle = bundle_of(("SELECT 1",), ("CALL nobody_knows()", "SELECT 2"))
    migrate(bundle_of(("SELECT 1",)), connection)
    intend(connection, bundle, 1, {})
    for _ in range(2):
        with pytest.raises(UndecidedError, match="CALL nobody_knows"):
            migrate(bundle, connection)
    assert read_state(connection, bundle).progress["m1"].intent == 1


def test_settings_of_earlier_statements_hold_after_a_resume(connection: Connection, database: str) -> None:
    """search_path, a custom setting and the role are as the file left them; the next file begins clean."""
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


def test_temporary_objects_begin_again_or_say_why_not(connection: Connection, database: str) -> None:
    """A file that did nothing lasting yet begins again; one that did is refused with the reason."""
    temporary = "CREATE TEMP TABLE scratch (n integer)"
    again = bundle_of((temporary, "INSERT INTO missing VALUES (1)"))
    with pytest.raises(StatementFailedError):
        migrate(again, connection)
    connection.execute("CREATE TABLE missing (n integer)")
    with psycopg.connect(database, autocommit=True) as fresh:
        assert migrate(again, fresh).applied == ("m0",)
        lasting = bundle_of(
            (temporary, "INSERT INTO missing VALUES (1)"),
            ("CREATE TABLE stays (n integer)", temporary, "SELECT * FROM gone, scratch"),
        )
        with pytest.raises(StatementFailedError):
            migrate(lasting, fresh)
    with (
        psycopg.connect(database, autocommit=True) as other,
        pytest.raises(SessionLostError, match="temporary objects"),
    ):
        migrate(lasting, other)


CHOOSES = (
    "CREATE FUNCTION public.choose(s text) RETURNS void LANGUAGE sql AS 'SELECT set_config(''search_path'', s, false)'"
)


@pytest.mark.parametrize("sql", ["DO $$ BEGIN SET search_path = s; END $$", "SELECT public.choose('s')"])
def test_settings_that_show_in_no_word_hold_after_a_resume(connection: Connection, database: str, sql: str) -> None:
    """What a block or a function set is restored, as if nothing had happened, and ends with its file."""
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


def test_rows_that_were_moved_to_a_temporary_table_are_not_lost_silently(connection: Connection, database: str) -> None:
    """A file that took rows away cannot begin again: the second time there would be none."""
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


def test_what_was_put_into_a_temporary_table_does_not_keep_a_file_from_beginning_again(
    connection: Connection, database: str
) -> None:
    """Nothing of it stays; and a rest that needs no temporary object goes on, whatever came before."""
    temporary = ("CREATE TEMP TABLE scratch (n integer)", "INSERT INTO scratch VALUES (7)")
    again = (*temporary, "INSERT INTO missing SELECT n FROM scratch")
    with pytest.raises(StatementFailedError):
        migrate(bundle_of(again), connection)
    connection.execute("CREATE TABLE missing (n integer)")
    with psycopg.connect(database, autocommit=True) as fresh:
        assert migrate(bundle_of(again), fresh).applied == ("m0",)
        assert fresh.execute("SELECT n FROM missing").fetchall() == [(7,)]
        lasting = (*temporary, "CREATE TABLE stays (n integer)", "INSERT INTO elsewhere VALUES (1)")
        with pytest.raises(StatementFailedError):
            migrate(bundle_of(again, lasting), fresh)
    connection.execute("CREATE TABLE elsewhere (n integer)")
    with psycopg.connect(database, autocommit=True) as fresh:
        assert migrate(bundle_of(again, lasting), fresh).applied == ("m1",)


@pytest.mark.parametrize(
    "word", ["SET SESSION AUTHORIZATION a", "COMMIT", "BEGIN", "ROLLBACK", "SAVEPOINT a", "START TRANSACTION"]
)
def test_transaction_control_is_refused_before_anything_runs(connection: Connection, word: str) -> None:
    """Not even the statements before it are run."""
    with pytest.raises(ChunkRefusedError, match="line"):
        migrate(bundle_of((TABLE,), ("SELECT 1", f"SELECT 2; {word}; SELECT 3")), connection)
    assert connection.execute("SELECT to_regclass('t')").fetchone() == (None,)


def test_a_lock_that_is_not_to_be_had_is_waited_for(connection: Connection, database: str) -> None:
    """The statement is rolled back, tried again, and done when the other has gone."""
    connection.execute(TABLE.encode())
    home_locked = threading.Event()
    seen: list[Event] = []

    def hold() -> None:
        with psycopg.connect(database) as other:
            other.execute("LOCK TABLE t")
            home_locked.set()
            time.sleep(0.6)

    holder = threading.Thread(target=hold)
    holder.start()
    assert home_locked.wait(5)
    bundle = bundle_of(("SELECT 1", "ALTER TABLE t ADD COLUMN c integer", "SELECT 2"))
    migrate(bundle, connection, statement_lock_timeout=0.1, on_event=seen.append)
    holder.join()
    assert [e.sqlstate for e in seen if isinstance(e, StatementRetried)][:1] == ["55P03"]
    assert read_plan(connection, bundle).up_to_date


@pytest.mark.parametrize(
    "sql", ["SELECT 'open", "SELECT $$ open", "SELECT 1 /* open", 'SELECT "open', "SELEC 1", "COPY t FROM STDIN"]
)
def test_broken_text_fails_alone(connection: Connection, sql: str) -> None:
    """It can swallow nothing that follows it, and what comes before it is applied."""
    bundle = bundle_of((TABLE, "INSERT INTO t VALUES (1, 1)", sql, "INSERT INTO t VALUES (2, 2) -- '$$*/\""))
    with pytest.raises(StatementFailedError) as failed:
        migrate(bundle, connection)
    assert failed.value.failure.number == 3
    assert connection.execute("SELECT a FROM t").fetchall() == [(1,)]
