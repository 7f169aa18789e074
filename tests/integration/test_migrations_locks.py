"""Table locks that a statement waits for, and the migration lock, which admits one runner at a time."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import psycopg
import pytest

from mosaic_gateway.migrations import failure
from mosaic_gateway.migrations.advisory_lock import MigrationsBusyError, migration_lock
from mosaic_gateway.migrations.bundle import LEDGERS, Bundle
from mosaic_gateway.migrations.events import Event, StatementApplied, StatementRetried
from mosaic_gateway.migrations.failure import StatementFailedError
from mosaic_gateway.migrations.model import Migration
from mosaic_gateway.migrations.parse import file_hash, split
from mosaic_gateway.migrations.runner import migrate, read_plan

Connection = psycopg.Connection[tuple[object, ...]]
MARK = "\n--> statement-breakpoint\n"
TABLE = "CREATE TABLE t (a integer, b integer)"
LIMIT = 30.0  # seconds
CONCURRENTLY = "CREATE INDEX CONCURRENTLY t_a ON t (a)"


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


@contextmanager
def locked_by(database: str, sql: str, seconds: float) -> Iterator[None]:
    """Run *sql* in a transaction that is open before the block starts and for *seconds* afterwards."""
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


def test_a_lock_that_is_never_released_is_an_error(
    connection: Connection, database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The statement is retried with increasing, jittered pauses, then fails and is rolled back."""
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
    assert [event.attempt for event in retried] == list(range(1, failure.ATTEMPTS))
    limits = [min(failure.FIRST_PAUSE * 2**attempt, failure.LONGEST_PAUSE) for attempt in range(1, failure.ATTEMPTS)]
    shares = [pause / limit for pause, limit in zip(pauses, limits, strict=True)]
    assert all(0.5 <= share <= 1 for share in shares)
    assert len(set(shares)) == len(shares), "without jitter all runners would retry at the same instant"
    assert migrate(bundle, connection).applied == ("m0",)


def test_concurrently_waits_without_lock_timeout(connection: Connection, database: str) -> None:
    """A lock held for longer than lock_timeout leaves no invalid index; later statements have the timeout again."""
    connection.execute(TABLE.encode())
    bundle = bundle_of((CONCURRENTLY, "CREATE TABLE seen AS SELECT current_setting('lock_timeout') AS found"))
    seen: list[Event] = []
    with locked_by(database, "INSERT INTO t VALUES (1, 1)", 0.5):
        migrate(bundle, connection, statement_lock_timeout=0.1, on_event=seen.append)
    assert not [event for event in seen if isinstance(event, StatementRetried)]
    assert connection.execute("SELECT found FROM seen").fetchone() == ("100ms",)
    assert connection.execute("SELECT count(*) FROM pg_index WHERE NOT indisvalid").fetchone() == (0,)


def test_a_lock_timeout_set_by_the_file_is_restored(connection: Connection) -> None:
    """After CONCURRENTLY the file's own timeout applies, not the runner's."""
    setting = "CREATE TABLE seen AS SELECT current_setting('lock_timeout') AS found"
    migrate(bundle_of((TABLE,), ("SET lock_timeout = '7s'", CONCURRENTLY, setting)), connection)
    assert connection.execute("SELECT found FROM seen").fetchone() == ("7s",)


def test_concurrently_while_eight_runners_wait_for_the_lock(database: str) -> None:
    """Waiting runners hold no snapshot: there is no deadlock and no invalid index, and all runners finish."""
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

    started = time.monotonic()
    with ThreadPoolExecutor(9) as pool:
        assert sorted(pool.map(run, range(9), timeout=LIMIT)) == [0] * 8 + [3]
    assert time.monotonic() - started < LIMIT / 2
    with psycopg.connect(database, autocommit=True) as connection:
        assert connection.execute("SELECT count(*) FROM pg_index WHERE NOT indisvalid").fetchone() == (0,)
        assert connection.execute("SELECT count(*) FROM t").fetchone() == (5001,)
        assert read_plan(connection, bundle).up_to_date


@pytest.mark.parametrize("reset", ["DISCARD ALL", "RESET ALL"])
def test_the_runners_lock_and_settings_are_restored(connection: Connection, database: str, reset: str) -> None:
    """DISCARD ALL releases the runner's lock and resets its settings: both are restored for later statements."""
    setting = "CREATE TABLE seen AS SELECT current_setting('client_connection_check_interval') AS found"
    others: list[str] = []

    def try_lock(event: Event) -> None:
        if isinstance(event, StatementApplied) and event.tag == "m1":
            with psycopg.connect(database, autocommit=True) as other:
                try:
                    with migration_lock(other, 0):
                        others.append("acquired")
                except MigrationsBusyError:
                    others.append("busy")

    bundle = bundle_of((reset, setting), ("SELECT 1",))
    migrate(bundle, connection, on_event=try_lock)
    assert others == ["busy"]
    assert connection.execute("SELECT found FROM seen").fetchone() == ("200ms",)
    with psycopg.connect(database, autocommit=True) as other, migration_lock(other, 0):
        pass


@pytest.mark.parametrize(
    "statement", ["SELECT 1", "SELECT 1 / 0", CONCURRENTLY, "SET search_path = nowhere", "DISCARD ALL"]
)
def test_the_callers_session_settings_are_restored(connection: Connection, statement: str) -> None:
    """After success and failure the caller's settings are restored, in particular synchronous_commit."""
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
    prepared = connection.execute("SELECT count(*) FROM pg_prepared_statements WHERE name LIKE 'mosaic%'").fetchone()
    assert prepared == (0,)
