"""Chunks that share one transaction: what SQL needs one for, and BEGIN and COMMIT of the file itself."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator

import psycopg
import pytest
from tests.support.engine_marks import not_on_pglite, on_both_engines

from mosaic_gateway.migrations import ledger, progress
from mosaic_gateway.migrations.bundle import LEDGERS, Bundle
from mosaic_gateway.migrations.events import Event, StatementApplied, StatementRetried, StatementsSent
from mosaic_gateway.migrations.failure import ChunkRefusedError, StatementFailedError, UndecidedError
from mosaic_gateway.migrations.model import Migration
from mosaic_gateway.migrations.parse import file_hash, prefix_hash, split
from mosaic_gateway.migrations.plan import SessionLostError
from mosaic_gateway.migrations.resolve import ResolveAnswer, resolve
from mosaic_gateway.migrations.runner import migrate, read_plan, read_state

pytestmark = on_both_engines

Connection = psycopg.Connection[tuple[object, ...]]
MARK = "\n--> statement-breakpoint\n"
TABLE = "CREATE TABLE t (n integer PRIMARY KEY, s text)"
SHOW = "INSERT INTO t SELECT coalesce(max(n), 0) + 1, {} FROM t"
FLAG = SHOW.format("nullif(current_setting('my.flag', true), '')")
ISOLATION = SHOW.format("current_setting('transaction_isolation')")
OPENS = (
    "CREATE FUNCTION o() RETURNS refcursor LANGUAGE plpgsql AS "
    "$$ DECLARE r refcursor := 'c'; BEGIN OPEN r FOR SELECT 1; RETURN r; END $$"
)
IN_THE_MIDDLE = """-- one
-- two
INSERT INTO t VALUES (1);
BEGIN TRANSACTION;
INSERT INTO t VALUES (2);
COMMIT;
INSERT INTO t VALUES (3)"""
PROCEDURE = (
    "CREATE PROCEDURE fill() LANGUAGE plpgsql AS "
    "$$ BEGIN FOR i IN 1..3 LOOP INSERT INTO t VALUES (i); COMMIT; END LOOP; END $$"
)


def bundle_of(*files: str | tuple[str, ...]) -> Bundle:
    """Return a bundle with a migration for each file, given as its text or its chunks."""
    texts = [file if isinstance(file, str) else MARK.join(file) for file in files]
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


def rows(connection: Connection) -> list[tuple[object, ...]]:
    """Return the rows of table t."""
    return connection.execute("SELECT n, s FROM t ORDER BY n").fetchall()


def half_applied(connection: Connection, bundle: Bundle, applied: int) -> None:
    """Write the record of a version that committed each of the first *applied* chunks of the last migration alone."""
    migration = bundle.migrations[-1]
    progress.create(connection)
    ledger.create(connection, bundle.ledger)
    connection.execute(
        "INSERT INTO mosaic.migration_progress (ledger, tag, hash, applied, total, prefix)"
        " VALUES (%s, %s, %s, %s, %s, %s)",
        (progress.key_of(bundle.ledger), migration.tag, migration.hash, applied, len(migration.statements),
         prefix_hash(migration.statements, applied)),
    )  # fmt: skip


#: The chunks of a file after TABLE, and the rows of t that the same statements leave in one transaction, or one by one
#: after a COMMIT of the file.
EFFECTS: dict[str, tuple[tuple[str, ...], list[tuple[object, ...]]]] = {
    "set local": (
        ("SET LOCAL my.flag = 'x'", "SELECT 1", FLAG), [(1, "x")]),
    "set local after commit": (
        ("COMMIT", "SET LOCAL my.flag = 'x'", FLAG), [(1, None)]),
    "set_config": (
        ("SELECT set_config('my.flag', 'x', true)", FLAG), [(1, "x")]),
    "do block": (
        ("DO $$ BEGIN PERFORM set_config('my.flag', 'x', true); END $$",
         FLAG), [(1, "x")]),
    "set constraints": (
        ("CREATE TABLE u (n integer REFERENCES t DEFERRABLE)", "SET CONSTRAINTS ALL DEFERRED",
         "INSERT INTO u VALUES (1)", "INSERT INTO t VALUES (1)"), [(1, None)]),
    "lock": (
        ("LOCK TABLE t", SHOW.format("(SELECT mode FROM pg_locks WHERE relation = 't'::regclass"
                                     " AND mode = 'AccessExclusiveLock')")), [(1, "AccessExclusiveLock")]),
    "advisory lock": (
        ("SELECT pg_advisory_xact_lock_shared(7)",
         SHOW.format("(SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND objid = 7)")), [(1, "1")]),
    "savepoint": (
        ("SAVEPOINT a", "INSERT INTO t VALUES (1)", "ROLLBACK TO SAVEPOINT a", "INSERT INTO t VALUES (2)", "RELEASE a"),
        [(2, None)]),
    "cursor": (
        ("DECLARE c CURSOR FOR SELECT generate_series(1, 9)", "MOVE 3 FROM c", "FETCH 1 FROM c",
         "DO $$ DECLARE r refcursor := 'c'; n integer; BEGIN FETCH r INTO n; INSERT INTO t VALUES (n); END $$"),
        [(5, None)]),
    "cursor of a function": (
        (OPENS, "SELECT o()", "FETCH ALL FROM c", "INSERT INTO t VALUES (1)"), [(1, None)]),
    "temporary table": (
        ("CREATE TEMP TABLE plan (n integer) ON COMMIT DROP", "INSERT INTO plan VALUES (7)",
         "INSERT INTO t SELECT n FROM plan"), [(7, None)]),
    "on commit delete rows": (
        ("CREATE TEMP TABLE plan (n integer) ON COMMIT DELETE ROWS", "INSERT INTO plan VALUES (7)",
         "INSERT INTO t SELECT n FROM plan"), [(7, None)]),
    "begin over chunks": (
        ("BEGIN;\nINSERT INTO t VALUES (1)", "INSERT INTO t VALUES (2, pg_current_xact_id()::text)",
         "UPDATE t SET s = 'one' WHERE s = pg_current_xact_id()::text", "COMMIT"), [(1, None), (2, "one")]),
    "begin in the middle": (
        (IN_THE_MIDDLE,), [(1, None), (2, None), (3, None)]),
    "isolation": (
        ("BEGIN ISOLATION LEVEL SERIALIZABLE", ISOLATION, "END", ISOLATION),
        [(1, "serializable"), (2, "read committed")]),
    "start transaction": (
        (f"START TRANSACTION ISOLATION LEVEL REPEATABLE READ; {ISOLATION}; COMMIT AND CHAIN; {ISOLATION}; COMMIT",
         ISOLATION), [(1, "repeatable read"), (2, "repeatable read"), (3, "read committed")]),
    "set transaction": (
        ("BEGIN", "SET TRANSACTION ISOLATION LEVEL SERIALIZABLE", ISOLATION, "COMMIT"), [(1, "serializable")]),
    "set transaction alone": (("SET TRANSACTION ISOLATION LEVEL SERIALIZABLE", ISOLATION), [(1, "serializable")]),
    "read only": (
        ("BEGIN TRANSACTION ISOLATION LEVEL SERIALIZABLE READ ONLY DEFERRABLE", "SET my.mode = 'unset'",
         "SELECT set_config('my.mode', current_setting('transaction_read_only'), false)", "COMMIT",
         SHOW.format("current_setting('my.mode')")), [(1, "on")]),
    "begin without commit": (("BEGIN", "SET LOCAL my.flag = 'x'", FLAG), [(1, "x")]),
    "begin in begin": (
        ("BEGIN; SET LOCAL my.flag = 'x'", "BEGIN; INSERT INTO t VALUES (1)", FLAG,
         "COMMIT"), [(1, None), (2, "x")]),
    "commit alone": (
        ("INSERT INTO t VALUES (1)", "COMMIT;", "END", "INSERT INTO t VALUES (2)"), [(1, None), (2, None)]),
    "bodies": (
        ("CREATE FUNCTION f() RETURNS integer LANGUAGE sql BEGIN ATOMIC SELECT CASE WHEN true THEN 1 END; END",
         "DO $$ BEGIN INSERT INTO t VALUES (f(), 'COMMIT; BEGIN'); END $$ -- COMMIT"), [(1, "COMMIT; BEGIN")]),
}  # fmt: skip


#: Those that also change the session: PGlite's is shared, so that there the run must be alone.
NEEDS_SESSION = {"on commit delete rows", "read only"}


@pytest.mark.parametrize("name", EFFECTS)
def test_effect(connection: Connection, name: str) -> None:
    """A construct has the effect that it has in the transaction in which its author ran the file."""
    chunks, expected = EFFECTS[name]
    bundle = bundle_of((TABLE,), chunks, (SHOW.format("'after'"),))
    assert migrate(bundle, connection, alone=name in NEEDS_SESSION).applied == ("m0", "m1", "m2")
    assert rows(connection)[:-1] == expected
    assert rows(connection)[-1][1] == "after"
    assert read_plan(connection, bundle).up_to_date


def test_names_and_locks_end_with_the_group(connection: Connection) -> None:
    """SET LOCAL search_path decides where a table is created, up to the end of its file and no further."""
    migrate(bundle_of(("CREATE SCHEMA s", "SET LOCAL search_path = s", TABLE), (TABLE,)), connection)
    found = connection.execute("SELECT schemaname FROM pg_tables WHERE tablename = 't' ORDER BY 1").fetchall()
    assert found == [("public",), ("s",)]


def test_commit_before_an_index_that_is_built_concurrently(connection: Connection) -> None:
    """A chunk that is only COMMIT, and one that begins with it, are ways round drizzle's transaction."""
    index = "CREATE INDEX CONCURRENTLY {} ON t (s)"
    files = ((TABLE,), ("COMMIT;", index.format("a")), f"INSERT INTO t VALUES (1);\nCOMMIT;\n{index.format('b')};\n")
    assert migrate(bundle_of(*files), connection).applied == ("m0", "m1", "m2")
    assert one(connection, "SELECT count(*) FROM pg_index JOIN pg_class c ON c.oid = indexrelid"
                           " WHERE relname IN ('a', 'b') AND indisvalid") == 2  # fmt: skip


GROUP = (
    "INSERT INTO t VALUES (1)",
    "BEGIN",
    "INSERT INTO t VALUES (2)",
    "-- é\n\nINSERT INTO\nt VALUES ({})",
    "COMMIT",
)


@pytest.mark.parametrize(
    ("value", "line", "column", "sqlstate"),
    [("ü", 10, 11, "42703"), ("2", 7, None, "23505")],
    ids=["placed", "unplaced"],
)
def test_a_failure_rolls_back_its_group(
    connection: Connection, value: str, line: int, column: int | None, sqlstate: str
) -> None:
    """The error names the statement at fault and its group; count and next run are at the group's beginning."""
    wrong = bundle_of((TABLE,), tuple(chunk.format(value) for chunk in GROUP), (SHOW.format("'last'"),))
    for _ in range(2):
        with pytest.raises(StatementFailedError, match=sqlstate) as failed:
            migrate(wrong, connection)
        failure = failed.value.failure
        assert (failure.tag, failure.number, failure.total, failure.line, failure.column) == ("m1", 4, 5, line, column)
        assert "Statements 2 to 5 share one transaction and were rolled back" in str(failed.value.hint)
        assert "resumes at statement 2" in str(failed.value.hint)
        assert failed.value.details["group"] == [2, 5]
        assert rows(connection) == [(1, None)]
        row = read_state(connection, wrong).progress["m1"]
        assert (row.applied, row.failed_statement, row.failed_sqlstate) == (1, 4, sqlstate)
    right = bundle_of((TABLE,), tuple(chunk.format("3") for chunk in GROUP))
    events: list[Event] = []
    assert migrate(right, connection, on_event=events.append).applied == ("m1",)
    assert [event.number for event in events if isinstance(event, StatementApplied)] == [2, 3, 4, 5]
    assert [event.statements for event in events if isinstance(event, StatementsSent)] == [4]
    assert rows(connection) == [(1, None), (2, None), (3, None)]


def test_a_constraint_that_fails_at_commit_rolls_back_the_group(connection: Connection) -> None:
    """The group's last statement is named, because PostgreSQL names none."""
    deferred = (
        "CREATE TABLE u (n integer REFERENCES t DEFERRABLE)",
        "SET CONSTRAINTS ALL DEFERRED",
        "INSERT INTO u VALUES (9)",
        "SELECT 1",
    )
    with pytest.raises(StatementFailedError, match="23503") as failed:
        migrate(bundle_of((TABLE,), deferred), connection)
    assert (failed.value.failure.number, failed.value.failure.first) == (4, 2)
    assert one(connection, "SELECT count(*) FROM u") == 0


CHILD = "CREATE TABLE u (n integer REFERENCES t DEFERRABLE INITIALLY DEFERRED)"


def test_a_deferred_constraint_is_checked_at_the_end_of_the_file(connection: Connection) -> None:
    """A row that its successor makes valid is committed together with it, and only from there on."""
    chunks = ("ALTER TYPE m ADD VALUE 'b'", "INSERT INTO u VALUES (1)", "INSERT INTO t VALUES (1, 'b'::m)", "SELECT 1")
    bundle = bundle_of((TABLE, CHILD, "CREATE TYPE m AS ENUM ('a')"), chunks, (SHOW.format("'after'"),))
    events: list[Event] = []
    assert migrate(bundle, connection, on_event=events.append).applied == ("m0", "m1", "m2")
    assert rows(connection) == [(1, "b"), (2, "after")]
    assert one(connection, "SELECT count(*) FROM u") == 1
    applied = [(event.tag, event.number) for event in events if isinstance(event, StatementApplied)]
    assert applied == [("m0", 1), ("m0", 2), ("m0", 3), *(("m1", n) for n in range(1, 5)), ("m2", 1)]


@pytest.mark.parametrize("rest", ["SELECT 1", "COMMIT", "CREATE INDEX CONCURRENTLY i ON t (s)"])
def test_a_deferred_constraint_that_stays_violated(connection: Connection, rest: str) -> None:
    """The statement that violates it is named, and nothing of it or after it is applied."""
    chunks = ("INSERT INTO t VALUES (7)", "INSERT INTO u VALUES (1)", rest, "INSERT INTO t VALUES (8)")
    for _ in range(2):
        with pytest.raises(StatementFailedError, match="23503") as failed:
            migrate(bundle_of((TABLE, CHILD), chunks), connection)
        assert failed.value.failure.number == 2
        assert rows(connection) == [(7, None)]


REFUSED = [
    (("SET LOCAL my.flag = 'x'", "SELECT 1;\nCREATE INDEX CONCURRENTLY i ON t (s)"), "statement 2 of 2, line 4",
     r"CREATE INDEX CONCURRENTLY .* SET LOCAL \(statement 1, line 1\)"),
    (("BEGIN", "VACUUM t", "COMMIT"), "statement 2 of 3, line 3", r"BEGIN \(statement 1, line 1\)"),
    (("CREATE TYPE m AS ENUM ('a')", "COMMIT", "BEGIN", "ALTER TYPE m ADD VALUE 'b'", "SELECT 'b'::m"),
     "statement 5 of 5, line 9", r"statement 4 \(line 7\)"),
    (("SELECT 1", "SELECT 2;\nROLLBACK;"), "statement 2 of 2, line 4", "ROLLBACK is not allowed"),
    (("BEGIN", "SELECT 1;\n\nABORT", "COMMIT"), "statement 2 of 3, line 5", "ABORT is not allowed"),
]  # fmt: skip


@pytest.mark.parametrize(("chunks", "place", "reason"), REFUSED)
def test_what_cannot_run_in_its_group_is_refused_before_anything_runs(
    connection: Connection, chunks: tuple[str, ...], place: str, reason: str
) -> None:
    """The error names both statements, with the line of the one at fault; not even the ledger is created."""
    with pytest.raises(ChunkRefusedError, match=reason) as refused:
        migrate(bundle_of((TABLE,), chunks), connection)
    assert place in refused.value.message
    assert str(refused.value.hint).startswith("Nothing was run.")
    assert one(connection, "SELECT count(*) FROM pg_namespace WHERE nspname IN ('drizzle', 'mosaic')") == 0
    assert one(connection, "SELECT to_regclass('t')") is None


def test_a_refused_statement_that_is_already_applied_does_not_matter(connection: Connection) -> None:
    """A file of which only the part before a conflict is left to run is not refused for what is done."""
    migrate(bundle_of((TABLE,)), connection)
    chunks = ("SET LOCAL my.flag = 'x';\nCOMMIT", "CREATE INDEX CONCURRENTLY i ON t (s)")
    bundle = bundle_of((TABLE,), chunks)
    half_applied(connection, bundle, 1)
    assert migrate(bundle, connection).applied == ("m1",)


def test_a_procedure_that_commits_runs_outside_of_a_transaction(connection: Connection) -> None:
    """Also one that is the last of its file, and a DO block."""
    block = "DO $$ BEGIN INSERT INTO t VALUES (8); COMMIT; INSERT INTO t VALUES (9); END $$"
    bundle = bundle_of((TABLE, PROCEDURE), ("CALL fill()", "DROP PROCEDURE fill()", block))
    assert migrate(bundle, connection).applied == ("m0", "m1")
    assert [n for n, _ in rows(connection)] == [1, 2, 3, 8, 9]


def test_a_procedure_that_was_interrupted_is_asked_about(connection: Connection) -> None:
    """No catalog shows how far it came; --retry runs it from its beginning, --applied continues after it."""
    bundle = bundle_of((TABLE, PROCEDURE), ("CALL fill()", "SELECT 1"))
    migrate(bundle_of((TABLE, PROCEDURE)), connection)
    assert progress.note_intent(connection, bundle.ledger, bundle.migrations[1], 1, {"sql": "CALL fill()"})
    with pytest.raises(UndecidedError, match="CALL fill") as undecided:
        migrate(bundle, connection)
    assert "a part of its work may be permanent" in str(undecided.value.hint)
    resolve(bundle, connection, "m1", ResolveAnswer.RETRY)
    assert migrate(bundle, connection).applied == ("m1",)
    assert len(rows(connection)) == 3


def test_a_procedure_that_failed_is_asked_about(connection: Connection) -> None:
    """What it committed before the error remains, so that it is not run again without an answer."""
    bundle = bundle_of((TABLE, PROCEDURE), ("INSERT INTO t VALUES (3)", "CALL fill()"))
    with pytest.raises(StatementFailedError, match="23505") as failed:
        migrate(bundle, connection)
    assert "what it committed before the error remains" in str(failed.value.hint)
    assert len(rows(connection)) == 3
    with pytest.raises(UndecidedError):
        migrate(bundle, connection)
    assert resolve(bundle, connection, "m1", ResolveAnswer.APPLIED).finished


DIVIDED = ("SET LOCAL my.flag = 'x'", "LOCK TABLE t", FLAG)


@pytest.mark.parametrize("applied", [1, 2])
def test_a_group_that_an_earlier_version_divided_runs_again(connection: Connection, applied: int) -> None:
    """If all that was applied of it ended with its transaction, the group runs from its beginning."""
    migrate(bundle_of((TABLE,)), connection)
    bundle = bundle_of((TABLE,), DIVIDED)
    half_applied(connection, bundle, applied)
    assert migrate(bundle, connection).applied == ("m1",)
    assert rows(connection) == [(1, "x")]
    assert read_state(connection, bundle).progress["m1"].applied == 3


def test_a_temporary_table_of_an_earlier_version_is_created_again(connection: Connection) -> None:
    """It was dropped when the statement that created it committed alone."""
    migrate(bundle_of((TABLE,)), connection)
    chunks = ("INSERT INTO t VALUES (1)", *EFFECTS["temporary table"][0])
    bundle = bundle_of((TABLE,), chunks)
    half_applied(connection, bundle, 2)
    assert migrate(bundle, connection).applied == ("m1",)
    assert rows(connection) == [(7, None)]


def test_a_divided_group_with_lasting_effects_is_refused(connection: Connection) -> None:
    """The rest of the group is run by hand and recorded as a whole."""
    migrate(bundle_of((TABLE,)), connection)
    chunks = (
        "SET LOCAL my.flag = 'x'",
        "INSERT INTO t VALUES (1)",
        "INSERT INTO t VALUES (2)",
        "INSERT INTO t VALUES (3); COMMIT",
        "INSERT INTO t VALUES (4)",
    )
    bundle = bundle_of((TABLE,), chunks)
    half_applied(connection, bundle, 2)
    with pytest.raises(
        SessionLostError, match=r"statements 1 to 4 need one: SET LOCAL \(statement 1, line 1\)"
    ) as lost:
        migrate(bundle, connection)
    assert "Run statements 3 to 4 by hand" in str(lost.value.hint)
    resolution = resolve(bundle, connection, "m1", ResolveAnswer.APPLIED)
    assert (resolution.statement, resolution.through, resolution.finished) == (3, 4, False)
    assert migrate(bundle, connection).applied == ("m1",)
    assert rows(connection) == [(4, None)]


def test_a_failed_group_is_resolved_as_a_whole(connection: Connection) -> None:
    """A group that was run by hand is recorded with all its statements, and with its migration at the end."""
    bundle = bundle_of(
        (TABLE,), ("SELECT 1", "BEGIN", "INSERT INTO t VALUES (1)", "INSERT INTO missing VALUES (1)", "COMMIT")
    )
    with pytest.raises(StatementFailedError):
        migrate(bundle, connection)
    assert resolve(bundle, connection, "m1", ResolveAnswer.RETRY).statement == 2
    resolution = resolve(bundle, connection, "m1", ResolveAnswer.APPLIED)
    assert (resolution.statement, resolution.through, resolution.finished) == (2, 5, True)
    assert read_plan(connection, bundle).up_to_date


@not_on_pglite("refused unless the runner is alone: test_pglite_session.py")
def test_settings_of_a_transaction_are_not_restored(connection: Connection, database: str) -> None:
    """A later run finds the settings that the session had after the group's COMMIT."""
    state = "concat_ws(' ', current_setting('search_path'), current_setting('my.flag'), current_setting('TimeZone'))"
    chunks = (
        "SET search_path = pg_catalog, public",
        "BEGIN; SET LOCAL search_path = nowhere; SET LOCAL TIME ZONE 'Asia/Tokyo'; SET my.flag = 'x'; COMMIT",
        "SELECT 1 / (SELECT count(*) FROM public.t WHERE n = 9)",
        SHOW.format(state),
    )
    bundle = bundle_of((TABLE,), chunks)
    with pytest.raises(StatementFailedError, match="22012"):
        migrate(bundle, connection)
    saved = one(connection, "SELECT session FROM mosaic.migration_progress WHERE tag = 'm1'")
    assert saved == {"role": "none", "search_path": "pg_catalog, public", "my.flag": "x"}
    connection.execute("INSERT INTO t VALUES (9)")
    with psycopg.connect(database, autocommit=True) as fresh:
        assert migrate(bundle, fresh).applied == ("m1",)
    assert {s for n, s in rows(connection) if n != 9} == {f"pg_catalog, public x {one(connection, 'SHOW TimeZone')}"}


@not_on_pglite("PGlite has one session: no other session can hold a lock")
def test_a_group_is_retried_as_a_whole(connection: Connection, database: str) -> None:
    """It is rolled back while it waits for a lock, and applied once."""
    migrate(bundle_of((TABLE,)), connection)
    locked = threading.Event()

    def hold() -> None:
        with psycopg.connect(database) as other:
            other.execute("LOCK TABLE t")
            locked.set()
            time.sleep(0.6)

    holder = threading.Thread(target=hold)
    holder.start()
    assert locked.wait(5)
    events: list[Event] = []
    bundle = bundle_of(
        (TABLE,), ("CREATE TABLE u (n integer)", "BEGIN", "INSERT INTO u VALUES (1)", "LOCK TABLE t", "COMMIT")
    )
    migrate(bundle, connection, statement_lock_timeout=0.1, on_event=events.append)
    holder.join()
    assert {event.number for event in events if isinstance(event, StatementRetried)} == {2}
    assert one(connection, "SELECT count(*) FROM u") == 1
