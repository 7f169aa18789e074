"""Locks: those of tables, which a statement waits for, and that of the runners, of which one at a time may run."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import psycopg
import pytest

from mosaic_gateway.migrations import retry
from mosaic_gateway.migrations.bundle import LEDGERS, Bundle
from mosaic_gateway.migrations.events import Event, StatementApplied, StatementRetried
from mosaic_gateway.migrations.failure import StatementFailedError
from mosaic_gateway.migrations.lock import MigrationsBusyError, migration_lock
from mosaic_gateway.migrations.model import Migration
from mosaic_gateway.migrations.parse import file_hash, split
from mosaic_gateway.migrations.runner import migrate, read_plan

Connection = psycopg.Connection[tuple[object, ...]]
MARK = "\n--> statement-breakpoint\n"
TABLE = "CREATE TABLE t (a integer, b integer)"
LIMIT = 30.0  # seconds
CONCURRENTLY = "CREATE INDEX CONCURRENTLY t_a ON t (a)"


def bundle_of(*files: tuple[str, ...]) -> Bundle:
    """Return a bundle with a migration for each row of statements."""
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


@contextmanager
def home_locked(database: str, sql: str, seconds: float) -> Iterator[None]:
    """Keep what *sql* locks in an open transaction for some *seconds*, from before the block on."""
    held = threading.Event()

    def hold() -> None:
        with psycopg.connect(database) as other:
            other.execute(sql.encode())
            held.set()
            time.sleep(seconds)

    with ThreadPoolExecutor(1) as pool:
        done = pool.submit(hold)
        assert held.wait(LIMIT)
        yield
        done.result(LIMIT)


def test_a_lock_that_is_never_to_be_had_ends_in_an_error(
    connection: Connection, database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is tried again a few times, after longer and longer pauses that no two runners share; nothing remains."""
    pauses: list[float] = []
    monkeypatch.setattr(time, "sleep", pauses.append)
    connection.execute(TABLE.encode())
    bundle = bundle_of(("CREATE TABLE u (n integer)", "ALTER TABLE t ADD COLUMN c integer", "SELECT 1"))
    seen: list[Event] = []
    with psycopg.connect(database) as other:
        other.execute("LOCK TABLE t")
        with pytest.raises(StatementFailedError) as failed:
            migrate(bundle, connection, statement_lock_timeout=0.05, on_event=seen.append)
    assert (failed.value.failure.sqlstate, failed.value.failure.number) == ("55P03", 2)
    retried = [event for event in seen if isinstance(event, StatementRetried)]
    assert [event.attempt for event in retried] == list(range(1, retry.ATTEMPTS))
    whole = [min(retry.FIRST_PAUSE * 2**attempt, retry.LONGEST_PAUSE) for attempt in range(1, retry.ATTEMPTS)]
    shares = [pause / limit for pause, limit in zip(pauses, whole, strict=True)]
    assert all(0.5 <= share <= 1 for share in shares)
    assert len(set(shares)) == len(shares), "all runners would come back at the same instant"
    assert migrate(bundle, connection).applied == ("m0",)


def test_concurrently_waits_without_a_limit_and_the_limit_comes_back(connection: Connection, database: str) -> None:
    """A lock that is held for longer than the limit leaves no invalid index; what follows has the limit again."""
    connection.execute(TABLE.encode())
    bundle = bundle_of((CONCURRENTLY, "CREATE TABLE seen AS SELECT current_setting('lock_timeout') AS found"))
    seen: list[Event] = []
    with home_locked(database, "INSERT INTO t VALUES (1, 1)", 0.5):
        migrate(bundle, connection, statement_lock_timeout=0.1, on_event=seen.append)
    assert not [event for event in seen if isinstance(event, StatementRetried)]
    assert connection.execute("SELECT found FROM seen").fetchone() == ("100ms",)
    assert connection.execute("SELECT count(*) FROM pg_index WHERE NOT indisvalid").fetchone() == (0,)


def test_a_limit_that_a_file_sets_for_itself_comes_back_too(connection: Connection) -> None:
    """After CONCURRENTLY it is the file's own limit, not the runner's."""
    setting = "CREATE TABLE seen AS SELECT current_setting('lock_timeout') AS found"
    migrate(bundle_of((TABLE,), ("SET lock_timeout = '7s'", CONCURRENTLY, setting)), connection)
    assert connection.execute("SELECT found FROM seen").fetchone() == ("7s",)


def test_concurrently_while_eight_others_wait_for_the_lock(database: str) -> None:
    """Who waits holds no snapshot: no deadlock, no invalid index, and everybody comes to an end."""
    bundle = bundle_of(
        (TABLE, "INSERT INTO t SELECT n, n FROM generate_series(1, 5000) AS n"),
        (CONCURRENTLY, "CREATE INDEX CONCURRENTLY ON t (b)"),
        ("INSERT INTO t VALUES (0, 0)",),
    )
    barrier = threading.Barrier(9)

    def run(_number: int) -> int:
        with psycopg.connect(database, autocommit=True) as connection:
            barrier.wait(LIMIT)
            return len(migrate(bundle, connection, lock_timeout=LIMIT).applied)

    began = time.monotonic()
    with ThreadPoolExecutor(9) as pool:
        assert sorted(pool.map(run, range(9), timeout=LIMIT)) == [0] * 8 + [3]
    assert time.monotonic() - began < LIMIT / 2
    with psycopg.connect(database, autocommit=True) as connection:
        assert connection.execute("SELECT count(*) FROM pg_index WHERE NOT indisvalid").fetchone() == (0,)
        assert connection.execute("SELECT count(*) FROM t").fetchone() == (5001,)
        assert read_plan(connection, bundle).up_to_date


@pytest.mark.parametrize("taken", ["DISCARD ALL", "RESET ALL"])
def test_what_a_file_takes_from_the_runner_is_taken_back(connection: Connection, database: str, taken: str) -> None:
    """DISCARD ALL gives up the runners' lock and its settings: both hold again for the statements that follow."""
    setting = "CREATE TABLE seen AS SELECT current_setting('client_connection_check_interval') AS found"
    others: list[str] = []

    def look(event: Event) -> None:
        if isinstance(event, StatementApplied) and event.tag == "m1":
            with psycopg.connect(database, autocommit=True) as other:
                try:
                    with migration_lock(other, 0):
                        others.append("had the lock")
                except MigrationsBusyError:
                    others.append("busy")

    bundle = bundle_of((taken, setting), ("SELECT 1",))
    migrate(bundle, connection, on_event=look)
    assert others == ["busy"]
    assert connection.execute("SELECT found FROM seen").fetchone() == ("200ms",)
    with psycopg.connect(database, autocommit=True) as other, migration_lock(other, 0):
        pass


@pytest.mark.parametrize(
    "statement", ["SELECT 1", "SELECT 1 / 0", CONCURRENTLY, "SET search_path = nowhere", "DISCARD ALL"]
)
def test_the_callers_session_is_given_back(connection: Connection, statement: str) -> None:
    """Whatever ran, and whether it failed: the settings, above all synchronous_commit, are the caller's again."""
    names = ["synchronous_commit", "lock_timeout", "client_connection_check_interval", "work_mem", "search_path"]
    connection.execute("SET work_mem = '5MB'")
    connection.execute("SET lock_timeout = '3s'")

    def settings() -> list[object]:
        return [connection.execute("SELECT current_setting(%s)", (name,)).fetchone() for name in names]

    before, threshold = settings(), connection.prepare_threshold
    bundle = bundle_of((TABLE,), (statement,))
    if statement == "SELECT 1 / 0":
        with pytest.raises(StatementFailedError):
            migrate(bundle, connection)
    else:
        migrate(bundle, connection)
    assert (settings(), connection.prepare_threshold) == (before, threshold)
    ours = connection.execute("SELECT count(*) FROM pg_prepared_statements WHERE name LIKE 'mosaic%'").fetchone()
    assert ours == (0,)
