"""Concurrent runners on one database: with the lock, without it, and with a timeout."""

from __future__ import annotations

import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress

import psycopg
import pytest
from tests.support.engine_marks import not_on_pglite, on_both_engines

from mosaic_gateway.errors import ExitCode
from mosaic_gateway.migrations import record_tables
from mosaic_gateway.migrations.advisory_lock import MigrationsBusyError, migration_lock
from mosaic_gateway.migrations.bundle import Bundle, LedgerName
from mosaic_gateway.migrations.events import Event
from mosaic_gateway.migrations.model import Migration
from mosaic_gateway.migrations.parse import file_hash, split
from mosaic_gateway.migrations.runner import _Run, migrate, read_plan, read_state

pytestmark = on_both_engines


Connection = psycopg.Connection[tuple[object, ...]]
MARK = "--> statement-breakpoint\n"
GATEWAY = Bundle.load("gateway")
LIMIT = 60.0  # seconds
PROCESS = """
import sys
import psycopg
from mosaic_gateway.migrations import Bundle, migrate
bundle = Bundle.load("gateway")
with psycopg.connect(sys.argv[1], autocommit=True) as connection:
    print("ready", flush=True)
    sys.stdin.readline()
    print(*migrate(bundle, connection).applied)
"""


def inserts(files: int, statements: int) -> Bundle:
    """Return a bundle that inserts files * statements rows, with comment-only and empty files in between."""
    texts = ["CREATE TABLE notes (n integer NOT NULL);"]
    for file in range(files):
        numbers = range(file * statements, (file + 1) * statements)
        texts += [MARK.join(f"INSERT INTO notes VALUES ({number});" for number in numbers), "-- nothing", ""]
    migrations = tuple(
        Migration(tag=f"m{index:03}", when=5000 - index, hash=file_hash(text.encode()), statements=split(text))
        for index, text in enumerate(texts)
    )
    return Bundle(name="test", ledger=LedgerName("drizzle", "__drizzle_migrations"), migrations=migrations)


def at_once(conninfo: str, count: int, run: Callable[[Connection], tuple[str, ...]]) -> list[tuple[str, ...]]:
    """Call *run* in *count* threads with a connection each, all started at the same instant."""
    barrier = threading.Barrier(count)

    def runner(_number: int) -> tuple[str, ...]:
        with psycopg.connect(conninfo, autocommit=True) as connection:
            barrier.wait(LIMIT)
            return run(connection)

    with ThreadPoolExecutor(count) as pool:
        return list(pool.map(runner, range(count), timeout=LIMIT))


def run_unlocked(bundle: Bundle, connection: Connection) -> tuple[str, ...]:
    """Run *bundle* without the lock."""
    run = _Run(bundle, connection, 5.0, lambda _event: None)
    run.run_until_up_to_date()
    return tuple(run.finished)


def assert_applied_once(conninfo: str, bundle: Bundle, applied: Sequence[tuple[str, ...]]) -> None:
    """Verify the ledger and the runners' reports against the bundle."""
    with psycopg.connect(conninfo, autocommit=True) as connection:
        state = read_state(connection, bundle)
        assert [(row.hash, row.when) for row in state.applied] == [(m.hash, m.when) for m in bundle.migrations]
        assert read_plan(connection, bundle).up_to_date
        assert sorted(tag for tags in applied for tag in tags) == sorted(m.tag for m in bundle.migrations)
        for migration in bundle.migrations:
            row = state.progress[migration.tag]
            assert row.applied == row.total == len(migration.statements)


def assert_rows_once(conninfo: str, expected: int) -> None:
    """Verify that each number was inserted once."""
    with psycopg.connect(conninfo, autocommit=True) as connection:
        rows = [n for (n,) in connection.execute("SELECT n FROM notes ORDER BY n")]
        assert rows == list(range(expected))


@pytest.mark.parametrize("count", [2, 8])
def test_concurrent_runners_apply_everything_once(database: str, count: int) -> None:
    """Of several gateways that start together on an empty database one migrates, and all succeed."""
    reports = at_once(database, count, lambda connection: migrate(GATEWAY, connection).applied)
    assert sorted(map(len, reports)) == [0] * (count - 1) + [10]
    assert_applied_once(database, GATEWAY, reports)


def test_concurrent_processes_apply_everything_once(database: str) -> None:
    """The result is the same with separate processes."""
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", PROCESS, database], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        for _ in range(3)
    ]
    try:
        assert [process.stdout.readline() for process in processes if process.stdout] == ["ready\n"] * 3
        for process in processes:
            assert process.stdin is not None
            process.stdin.write("\n")
            process.stdin.flush()
        reports = [tuple(process.communicate(timeout=LIMIT)[0].split()) for process in processes]
    finally:
        for process in processes:
            process.kill()
            process.communicate()
    assert [process.returncode for process in processes] == [0] * 3
    assert_applied_once(database, GATEWAY, reports)


@pytest.mark.parametrize("count", [2, 8])
def test_without_the_lock_everything_is_still_applied_once(database: str, count: int) -> None:
    """The compare-and-set alone fences concurrent runners, also on files without statements."""
    bundle = inserts(4, 10)
    reports = at_once(database, count, lambda connection: run_unlocked(bundle, connection))
    assert_rows_once(database, 40)
    assert_applied_once(database, bundle, reports)


class _StopError(Exception):
    """The rival ran one statement."""


@not_on_pglite("one session")
@pytest.mark.parametrize("ended", ["COMMIT", "ROLLBACK"])
def test_tables_that_two_runners_create_at_once_have_the_names_of_one(database: str, ended: str) -> None:
    """PostgreSQL gives a derived name a number if another transaction, even one that rolls back, has the name."""
    with psycopg.connect(database, autocommit=True) as first, psycopg.connect(database, autocommit=True) as second:
        first.execute("CREATE SCHEMA drizzle; CREATE SCHEMA mosaic")
        first.execute("BEGIN")
        record_tables.create_tables(first, GATEWAY.ledger)
        with ThreadPoolExecutor(1) as pool:
            created = pool.submit(record_tables.create_tables, second, GATEWAY.ledger)
            wait_until_blocked(first, second.info.backend_pid)
            first.execute(ended.encode())
            created.result(LIMIT)
        query = "SELECT relname FROM pg_class WHERE relnamespace IN ('drizzle'::regnamespace, 'mosaic'::regnamespace)"
        names = {str(name) for (name,) in second.execute(query)}
    assert names == {
        "__drizzle_migrations",
        "__drizzle_migrations_id_seq",
        "__drizzle_migrations_pkey",
        "migration_progress",
        "migration_progress_pkey",
    }


def wait_until_blocked(connection: Connection, pid: int) -> None:
    """Wait until the server process *pid* waits for *connection*."""
    until = time.monotonic() + LIMIT
    while time.monotonic() < until:
        row = connection.execute("SELECT pg_backend_pid() = ANY (pg_blocking_pids(%s))", (pid,)).fetchone()
        if row and row[0]:
            return
        time.sleep(0.01)
    pytest.fail("not blocked")


def advance_by_one(bundle: Bundle, rival: Connection) -> None:
    """Let *rival* run the next statement without the lock, then stop."""

    def stop(_event: Event) -> None:
        raise _StopError

    with suppress(_StopError):
        _Run(bundle, rival, 5.0, stop).run_until_up_to_date()


def test_a_run_fenced_at_every_other_statement_succeeds(database: str) -> None:
    """A rival that is always one statement ahead causes a new plan each time, without a limit for long bundles."""
    bundle = inserts(1, 240)
    with (
        psycopg.connect(database, autocommit=True) as rival,
        psycopg.connect(database, autocommit=True) as connection,
    ):
        migrate(bundle, connection, on_event=lambda _applied: advance_by_one(bundle, rival))
    assert_rows_once(database, 240)


@not_on_pglite("the lock is outside of the runner")
def test_a_busy_lock_is_reported_with_its_holder(database: str) -> None:
    """The error names the holder's pid, application name, query and age, and nothing is written."""
    with (
        psycopg.connect(database, autocommit=True, application_name="other gateway") as holder,
        psycopg.connect(database, autocommit=True) as connection,
        migration_lock(holder, 5),
    ):
        holder.execute("SELECT 'a slow statement'")
        started = time.monotonic()
        with pytest.raises(MigrationsBusyError) as caught:
            migrate(GATEWAY, connection, lock_timeout=0.2)
        assert 0.2 <= time.monotonic() - started < 5
        found = connection.execute("SELECT to_regclass('drizzle.__drizzle_migrations')").fetchone()
        assert found == (None,)
        pid = holder.info.backend_pid
    error = caught.value
    assert (error.code, error.exit_code) == ("MIGRATIONS_BUSY", ExitCode.BUSY)
    assert error.details["pid"] == pid
    assert error.details["query"] == "SELECT 'a slow statement'"
    assert error.details["application"] == "other gateway"
    assert 0 < error.details["age_seconds"] < LIMIT
    for named in (str(pid), "a slow statement", "other gateway"):
        assert named in error.message


def test_the_lock_is_per_database_and_is_released(database: str) -> None:
    """A lock in another database of the server does not conflict, and the lock is released after the run."""
    elsewhere = psycopg.conninfo.make_conninfo(database, dbname="postgres")
    broken = inserts(1, 1)
    with (
        psycopg.connect(elsewhere, autocommit=True) as other,
        psycopg.connect(database, autocommit=True) as connection,
        migration_lock(other, 5),
    ):
        migrate(broken, connection, lock_timeout=0)
        with psycopg.connect(database, autocommit=True) as third, migration_lock(third, 0):
            pass


def test_an_up_to_date_database_needs_no_lock(database: str) -> None:
    """A gateway that is up to date does not wait for a long migration of another bundle."""
    with (
        psycopg.connect(database, autocommit=True) as holder,
        psycopg.connect(database, autocommit=True) as connection,
    ):
        migrate(GATEWAY, connection)
        with migration_lock(holder, 5):
            assert migrate(GATEWAY, connection, lock_timeout=0).applied == ()
