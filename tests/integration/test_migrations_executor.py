"""The runner with statements that fail, that were edited between runs, and that reset its session."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import psycopg
import pytest
from tests.support.engine_marks import not_on_pglite, on_both_engines

from mosaic_gateway.migrations import ledger, progress
from mosaic_gateway.migrations.advisory_lock import migration_lock
from mosaic_gateway.migrations.bundle import LEDGERS, Bundle
from mosaic_gateway.migrations.events import Event, StatementApplied, StatementRecovered
from mosaic_gateway.migrations.failure import StatementFailedError
from mosaic_gateway.migrations.model import Migration
from mosaic_gateway.migrations.parse import file_hash, split
from mosaic_gateway.migrations.plan import PrefixChangedError
from mosaic_gateway.migrations.runner import migrate, read_plan, read_state

pytestmark = on_both_engines


Connection = psycopg.Connection[tuple[object, ...]]
MARK = "\n--> statement-breakpoint\n"
TABLE = "CREATE TABLE t (a integer PRIMARY KEY, b integer, c text)"
PARTS = (
    "CREATE TABLE p (n integer) PARTITION BY RANGE (n)",
    "CREATE TABLE p1 PARTITION OF p FOR VALUES FROM (0) TO (10)",
)
DETACH = "ALTER TABLE p DETACH PARTITION p1 CONCURRENTLY"


def bundle_of(*files: tuple[str, ...]) -> Bundle:
    """Return a bundle with a migration for each tuple of statements."""
    texts = [MARK.join(statements) for statements in files]
    migrations = tuple(
        Migration(tag=f"m{number}", when=number + 1, hash=file_hash(text.encode()), statements=split(text))
        for number, text in enumerate(texts)
    )
    return Bundle(name="gateway", ledger=LEDGERS["gateway"], migrations=migrations)


@pytest.fixture
def connection(database: str) -> Iterator[Connection]:
    """Open a connection to a fresh database."""
    with psycopg.connect(database, autocommit=True) as opened:
        yield opened


def one(connection: Connection, sql: str) -> object:
    """Return the single value that *sql* returns."""
    row = connection.execute(sql.encode()).fetchone()
    assert row is not None
    return row[0]


def invalid(connection: Connection) -> object:
    """Return the number of indexes that are not valid."""
    return one(connection, "SELECT count(*) FROM pg_index WHERE NOT (indisvalid AND indisready AND indislive)")


def record_intent(connection: Connection, bundle: Bundle, number: int, sql: str, **note: object) -> None:
    """Write the records of a runner killed in statement *number*, which is *sql*, of the last migration."""
    progress.create(connection)
    ledger.create(connection, bundle.ledger)
    assert progress.note_intent(connection, bundle.ledger, bundle.migrations[-1], number, {"sql": sql, **note})


def test_statements_of_a_batch_before_the_failure_are_applied(connection: Connection) -> None:
    """The error names file and line, although statements of several files were sent in one message."""
    files = [
        (TABLE,),
        *((f"INSERT INTO t VALUES ({n})", f"-- é\nINSERT INTO t\nVALUES ({n + 100}, ü)") for n in (1, 2)),
    ]
    with pytest.raises(StatementFailedError) as failed:
        migrate(bundle_of(*files), connection)
    failure = failed.value.failure
    assert (failure.tag, failure.number, failure.line, failure.column) == ("m1", 2, 5, 14)
    assert failed.value.applied == ("m0",)
    assert one(connection, "SELECT array_agg(a) FROM t") == [1]


def test_an_error_at_commit_is_attributed_to_its_statement(connection: Connection) -> None:
    """A statement that violates a deferred constraint is rolled back and named in the error."""
    deferred = "CREATE TABLE u (a integer REFERENCES t DEFERRABLE INITIALLY DEFERRED)"
    bundle = bundle_of((TABLE, deferred), ("INSERT INTO t VALUES (1)", "INSERT INTO u VALUES (9)", "SELECT 1"))
    with pytest.raises(StatementFailedError, match="23503") as failed:
        migrate(bundle, connection)
    assert (failed.value.failure.tag, failed.value.failure.number) == ("m1", 2)
    assert read_state(connection, bundle).progress["m1"].applied == 1
    assert one(connection, "SELECT count(*) FROM u") == 0
    connection.execute("INSERT INTO t VALUES (9)")
    assert migrate(bundle, connection).applied == ("m1",)
    assert one(connection, "SELECT count(*) FROM u") == 1


@pytest.mark.parametrize("sql", ["DEALLOCATE ALL", "DISCARD ALL", "DISCARD PLANS", "RESET ALL"])
def test_the_prepared_statement_is_prepared_again_after_it_was_dropped(connection: Connection, sql: str) -> None:
    """The run continues, and nothing runs twice."""
    bundle = bundle_of(
        (TABLE, "INSERT INTO t VALUES (1)", sql, "INSERT INTO t VALUES (2)"), ("INSERT INTO t VALUES (3)",)
    )
    seen: list[Event] = []
    assert migrate(bundle, connection, on_event=seen.append).applied == ("m0", "m1")
    assert one(connection, "SELECT array_agg(a ORDER BY a) FROM t") == [1, 2, 3]
    assert [event.number for event in seen if isinstance(event, StatementApplied)] == [1, 2, 3, 4, 1]


def test_ctrl_c_releases_the_lock_and_leaves_a_usable_connection(connection: Connection, database: str) -> None:
    """The statement is cancelled in the server and rolled back, and the next run runs it again."""
    bundle = bundle_of((TABLE, "INSERT INTO t SELECT 1 FROM pg_sleep(20)"))
    interrupt = threading.Timer(0.3, os.kill, (os.getpid(), signal.SIGINT))
    interrupt.start()
    started = time.monotonic()
    with pytest.raises(KeyboardInterrupt):
        migrate(bundle, connection)
    interrupt.join()
    assert time.monotonic() - started < 10
    assert one(connection, "SELECT count(*) FROM t") == 0
    assert one(connection, "SHOW synchronous_commit") == "on"
    with psycopg.connect(database, autocommit=True) as other, migration_lock(other, 0):
        pass
    assert read_state(connection, bundle).progress["m0"].applied == 1


def test_only_settings_of_the_file_are_saved(connection: Connection) -> None:
    """Transaction parameters set by the runner's own BEGIN are not saved as settings of the migration."""
    with pytest.raises(StatementFailedError):
        migrate(bundle_of(("SET lock_timeout = '7s'", "SET search_path = pg_catalog", "SELECT 1 / 0")), connection)
    saved = one(connection, "SELECT session FROM mosaic.migration_progress")
    assert saved == {"role": "none", "lock_timeout": "7000", "search_path": "pg_catalog"}


@pytest.mark.parametrize("done", [False, True])
def test_settings_do_not_leak_from_a_recovered_last_statement(connection: Connection, *, done: bool) -> None:
    """The search_path of a file that was interrupted in its last statement does not apply to the next file."""
    before = one(connection, "SHOW search_path")
    index = "CREATE INDEX CONCURRENTLY here_n ON here (n)"
    first = ("CREATE SCHEMA s", "SET search_path = s", "CREATE TABLE here (n integer)", index)
    bundle = bundle_of(first)
    with pytest.raises(StatementFailedError):
        migrate(bundle_of((*first[:-1], "SELECT 1 / 0")), connection)
    record_intent(connection, bundle, 4, index, existed=False)
    if done:
        connection.execute("CREATE INDEX CONCURRENTLY here_n ON s.here (n)")
    seen: list[Event] = []
    extended = bundle_of(first, ("CREATE TABLE there (n integer)",))
    assert migrate(extended, connection, on_event=seen.append).applied == ("m0", "m1")
    assert [event.verdict for event in seen if isinstance(event, StatementRecovered)] == ["applied" if done else "run"]
    assert one(connection, "SELECT to_regclass('public.there') IS NOT NULL")
    assert one(connection, "SHOW search_path") == before


def test_an_invalid_index_is_dropped_after_its_statement_was_edited(connection: Connection) -> None:
    """The invalid index of the previous statement is dropped even if the file now has another statement."""
    rows = (TABLE, "INSERT INTO t VALUES (1, 7), (2, 7)")
    with pytest.raises(StatementFailedError, match="23505"):
        migrate(bundle_of(rows, ("CREATE UNIQUE INDEX CONCURRENTLY t_b ON t (b)",)), connection)
    assert invalid(connection) == 1
    edited = bundle_of(rows, ("CREATE INDEX CONCURRENTLY t_other ON t (b)", "SELECT 1"))
    assert migrate(edited, connection).applied == ("m1",)
    assert invalid(connection) == 0
    assert one(connection, "SELECT to_regclass('t_b') IS NULL AND to_regclass('t_other') IS NOT NULL")


@pytest.mark.parametrize("edited", [("INSERT INTO t VALUES (5)",), ()])
def test_a_failed_index_may_be_replaced_or_removed(connection: Connection, edited: tuple[str, ...]) -> None:
    """The intent is cleared if its statement was removed from the file."""
    rows = (TABLE, "INSERT INTO t VALUES (1, 7), (2, 7)")
    first = "INSERT INTO t VALUES (3, 3)"
    with pytest.raises(StatementFailedError, match="23505"):
        migrate(bundle_of(rows, (first, "CREATE UNIQUE INDEX CONCURRENTLY t_b ON t (b)")), connection)
    bundle = bundle_of(rows, (first, *edited))
    assert migrate(bundle, connection).applied == ("m1",)
    assert invalid(connection) == 0
    assert read_plan(connection, bundle).up_to_date
    assert one(connection, "SELECT count(*) FROM t") == 3 + len(edited)


def test_a_statement_that_took_effect_may_not_be_edited(connection: Connection) -> None:
    """The index exists as in the original file: an edited statement is refused, the original one resumes."""
    old, new = ("CREATE INDEX CONCURRENTLY t_b ON t (b)",), ("CREATE INDEX CONCURRENTLY t_b ON t (b, a)",)
    migrate(bundle_of((TABLE,)), connection)
    bundle = bundle_of((TABLE,), old)
    record_intent(connection, bundle, 1, old[0], existed=False)
    connection.execute(old[0].encode())
    with pytest.raises(PrefixChangedError, match="had taken effect"):
        migrate(bundle_of((TABLE,), new), connection)
    assert migrate(bundle, connection).applied == ("m1",)


def test_indexes_left_by_an_interrupted_reindex_are_dropped(connection: Connection) -> None:
    """Invalid indexes of the table and of its TOAST table are dropped, and the statement runs again."""
    bundle = bundle_of((TABLE, "INSERT INTO t VALUES (1, 1, 'x')"), ("REINDEX TABLE CONCURRENTLY t",))
    migrate(bundle_of((TABLE, "INSERT INTO t VALUES (1, 1, 'x')")), connection)
    record_intent(connection, bundle, 1, "REINDEX TABLE CONCURRENTLY t")
    connection.execute("CREATE INDEX t_pkey_ccnew ON t (a); SET allow_system_table_mods = on")
    toast = one(connection, "SELECT reltoastrelid::regclass::text FROM pg_class WHERE oid = 't'::regclass")
    connection.execute(f"ALTER INDEX {toast}_index RENAME TO left_ccnew1".encode())
    connection.execute("UPDATE pg_index SET indisvalid = false WHERE indexrelid::regclass::text ~ '_ccnew'")
    assert invalid(connection) == 2
    assert migrate(bundle, connection).applied == ("m1",)
    assert invalid(connection) == 0
    assert one(connection, "SELECT to_regclass('t_pkey_ccnew')") is None


@not_on_pglite("PGlite has one session: no other session can hold a lock or a snapshot")
def test_an_interrupted_detach_of_a_partition_is_finalized(connection: Connection, database: str) -> None:
    """A runner terminated while DETACH waits leaves it pending; the next run finalizes it."""
    bundle = bundle_of(PARTS, (DETACH, "INSERT INTO p1 VALUES (5)"))
    migrate(bundle_of(PARTS), connection)
    with psycopg.connect(database) as reader, psycopg.connect(database, autocommit=True) as other:
        reader.execute("SELECT * FROM p")
        with psycopg.connect(database, autocommit=True) as terminated:
            pending = threading.Thread(target=_terminate_when_pending, args=(other, terminated.info.backend_pid))
            pending.start()
            with pytest.raises(Exception, match=r"terminat|lost"):
                migrate(bundle, terminated)
            pending.join()
    assert one(connection, "SELECT inhdetachpending FROM pg_inherits WHERE inhrelid = 'p1'::regclass") is True
    assert migrate(bundle, connection).applied == ("m1",)
    assert one(connection, "SELECT count(*) FROM pg_inherits WHERE inhrelid = 'p1'::regclass") == 0


def _terminate_when_pending(connection: Connection, pid: int) -> None:
    deadline = time.monotonic() + 10
    while not one(connection, "SELECT count(*) FROM pg_inherits WHERE inhdetachpending"):
        if time.monotonic() > deadline:
            break
        time.sleep(0.01)
    connection.execute("SELECT pg_terminate_backend(%s)", (pid,))


def test_detaching_a_table_that_is_not_a_partition_fails_each_time(connection: Connection) -> None:
    """A table that was not attached before is not mistaken for one that the statement detached."""
    bundle = bundle_of((*PARTS, "CREATE TABLE p2 (n integer)"), (DETACH.replace("p1", "p2"),))
    for _ in range(2):
        with pytest.raises(StatementFailedError, match="42P01"):
            migrate(bundle, connection)
    connection.execute("ALTER TABLE p ATTACH PARTITION p2 FOR VALUES FROM (10) TO (20)")
    assert migrate(bundle, connection).applied == ("m1",)


def test_the_intent_is_flushed_before_the_statement(connection: Connection) -> None:
    """The intent commits synchronously: some statements have effects that are not ordered by WAL."""
    connection.execute("CREATE TABLE flushed (setting text)")
    progress.create(connection)
    connection.execute(
        "CREATE FUNCTION note() RETURNS trigger LANGUAGE plpgsql AS"
        " $$ BEGIN INSERT INTO flushed VALUES (current_setting('synchronous_commit')); RETURN NEW; END $$;"
        "CREATE TRIGGER note AFTER INSERT OR UPDATE ON mosaic.migration_progress FOR EACH ROW"
        " WHEN (NEW.intent IS NOT NULL) EXECUTE FUNCTION note()"
    )
    migrate(bundle_of((TABLE, "VACUUM t", "SELECT 1")), connection)
    assert connection.execute("SELECT setting FROM flushed").fetchall() == [("on",)]


@not_on_pglite("PGlite has one session: no other session can hold a lock or a snapshot")
def test_the_backend_of_a_killed_runner_is_waited_for(connection: Connection, database: str) -> None:
    """An index that it is still building is not treated as a leftover; it is accepted when it is finished."""
    sql = "CREATE INDEX CONCURRENTLY t_b ON t (b)"
    bundle = bundle_of((TABLE,), (sql,))
    migrate(bundle_of((TABLE,)), connection)
    record_intent(connection, bundle, 1, sql, existed=False)
    seen: list[Event] = []
    with (
        psycopg.connect(database) as reader,
        psycopg.connect(database, autocommit=True) as orphan,
        psycopg.connect(database, autocommit=True) as other,
        ThreadPoolExecutor(2) as pool,
    ):
        reader.execute("INSERT INTO t VALUES (1, 1)")
        building = pool.submit(orphan.execute, sql.encode())
        deadline = time.monotonic() + 10
        while one(other, "SELECT to_regclass('t_b')") is None:
            assert time.monotonic() < deadline
            time.sleep(0.01)
        run = pool.submit(migrate, bundle, connection, on_event=seen.append)
        time.sleep(0.3)
        reader.commit()
        building.result(10)
        assert run.result(10).applied == ("m1",)
        assert [event.verdict for event in seen if isinstance(event, StatementRecovered)] == ["applied"]
        assert invalid(other) == 0
