"""drizzle-orm 0.45 started during our run: it uses neither the migration lock nor the progress table."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import psycopg
from tests.interop.drizzle import Drizzle, Outcome

from mosaic_gateway.migrations import Bundle, migrate
from mosaic_gateway.migrations.events import Event, MigrationApplied, PlanComputed, StatementApplied
from mosaic_gateway.migrations.model import Migration
from mosaic_gateway.migrations.parse import file_hash, split
from mosaic_gateway.migrations.runner import read_plan

MARK = "--> statement-breakpoint\n"
LEDGER = Bundle.load("gateway").ledger
FIRST_WHEN = 1745280000000
LIMIT = 30.0  # seconds
DUPLICATE = {"42P07", "23505"}  # duplicate_table, or the catalog's own unique index


@dataclass
class Files:
    """Migrations created from their texts."""

    texts: list[str]
    migrations: list[Migration] = field(init=False)

    def __post_init__(self) -> None:
        self.migrations = [
            Migration(
                tag=f"{n:04}_m", when=FIRST_WHEN + n * 1000, hash=file_hash(text.encode()), statements=split(text)
            )
            for n, text in enumerate(self.texts)
        ]

    @property
    def bundle(self) -> Bundle:
        """The migrations as a bundle."""
        return Bundle(name="test", ledger=LEDGER, migrations=tuple(self.migrations))

    def folder(self, drizzle: Drizzle, path: Path) -> Path:
        """Write the migrations as a folder for drizzle."""
        return drizzle.folder(path, [(m, t.encode()) for m, t in zip(self.migrations, self.texts, strict=True)])


def once(wanted: type[Event], action: Callable[[], None]) -> Callable[[Event], None]:
    """Return an event handler that calls *action* at the first event of the class *wanted*."""
    pending = [action]

    def handle(event: Event) -> None:
        if isinstance(event, wanted) and pending:
            pending.pop()()

    return handle


def assert_applied_once(connection: psycopg.Connection[tuple[object, ...]], files: Files) -> None:
    """Verify the ledger against the files."""
    assert read_plan(connection, files.bundle).up_to_date
    found = connection.execute("SELECT hash FROM drizzle.__drizzle_migrations").fetchall()
    assert sorted(str(row[0]) for row in found) == sorted(m.hash for m in files.migrations)


def test_migrations_that_drizzle_applied_during_the_run_are_not_run_again(
    drizzle045: Drizzle, database: str, tmp_path: Path
) -> None:
    """drizzle applies the rest, including statements that could be run twice; our run detects it and succeeds."""
    files = Files(["CREATE TABLE notes (n integer)", *(f"INSERT INTO notes VALUES ({n})" for n in range(40))])
    folder = files.folder(drizzle045, tmp_path / "sql")
    outcomes: list[Outcome] = []
    with psycopg.connect(database, autocommit=True) as connection:
        report = migrate(
            files.bundle,
            connection,
            on_event=once(MigrationApplied, lambda: outcomes.append(drizzle045.run(folder, database))),
        )
        assert [outcome.ok for outcome in outcomes] == [True]
        assert 0 < len(report.applied) < len(files.migrations)
        assert connection.execute("SELECT n FROM notes ORDER BY n").fetchall() == [(n,) for n in range(40)]
        assert_applied_once(connection, files)


def test_drizzle_fails_on_a_half_applied_file(drizzle045: Drizzle, database: str, tmp_path: Path) -> None:
    """drizzle runs the file from its beginning, fails with 42P07 and rolls back; our run continues."""
    statements = ["CREATE TABLE notes (n integer)", *(f"INSERT INTO notes VALUES ({n})" for n in range(40))]
    files = Files([MARK.join(statements), "CREATE TABLE further (n integer)"])
    folder = files.folder(drizzle045, tmp_path / "sql")
    outcomes: list[Outcome] = []
    with psycopg.connect(database, autocommit=True) as connection:
        report = migrate(
            files.bundle,
            connection,
            on_event=once(StatementApplied, lambda: outcomes.append(drizzle045.run(folder, database))),
        )
        assert [(outcome.ok, outcome.code) for outcome in outcomes] == [(False, "42P07")]
        assert len(report.applied) == 2
        assert connection.execute("SELECT n FROM notes ORDER BY n").fetchall() == [(n,) for n in range(40)]
        assert_applied_once(connection, files)


def tables(count: int, seconds: float) -> Files:
    """Return files of one chunk that creates a table, inserts a row, and sleeps."""
    return Files(
        [
            f"CREATE TABLE t{n} (n integer); INSERT INTO t{n} VALUES ({n}); SELECT pg_sleep({seconds});"
            for n in range(count)
        ]
    )


def assert_filled_once(connection: psycopg.Connection[tuple[object, ...]], files: Files) -> None:
    """Verify that each of the `tables` has exactly its one row."""
    for number in range(len(files.texts)):
        assert connection.execute(f"SELECT n FROM t{number}".encode()).fetchall() == [(number,)]


def wait_for_rows(connection: psycopg.Connection[tuple[object, ...]]) -> None:
    """Wait until another session has an open transaction that wrote to the ledger."""
    deadline = time.monotonic() + LIMIT
    query = """
        SELECT count(*) FROM pg_locks WHERE relation = 'drizzle.__drizzle_migrations'::regclass
        AND mode = 'RowExclusiveLock' AND granted AND pid <> pg_backend_pid()"""
    while connection.execute(query.encode()).fetchone() == (0,):
        assert time.monotonic() < deadline
        time.sleep(0.005)


def test_an_open_transaction_of_drizzle_is_waited_for(drizzle045: Drizzle, database: str, tmp_path: Path) -> None:
    """Our statement waits for drizzle's table, fails because it then exists, and is found to be applied."""
    files = tables(40, 0.02)
    folder = files.folder(drizzle045, tmp_path / "sql")
    rivals: list[int] = []
    with psycopg.connect(database, autocommit=True) as connection:

        def start_drizzle() -> None:
            rivals.append(drizzle045.start(folder, database))
            wait_for_rows(connection)

        report = migrate(files.bundle, connection, on_event=once(MigrationApplied, start_drizzle))
        outcome = drizzle045.finish(rivals[0])
        assert outcome.ok, outcome
        assert 0 < len(report.applied) < len(files.texts)
        assert_applied_once(connection, files)
        assert_filled_once(connection, files)


def test_concurrent_runs_of_both_runners(drizzle045: Drizzle, database: str, tmp_path: Path) -> None:
    """PostgreSQL rejects the second CREATE TABLE: drizzle rolls back and fails, our run continues."""
    files = tables(150, 0.01)
    folder = files.folder(drizzle045, tmp_path / "sql")
    rivals: list[int] = []
    with psycopg.connect(database, autocommit=True) as connection:
        start = once(PlanComputed, lambda: rivals.append(drizzle045.start(folder, database)))
        migrate(files.bundle, connection, on_event=start)
        outcome = drizzle045.finish(rivals[0])
        assert outcome.ok or outcome.code in DUPLICATE, outcome
        assert_applied_once(connection, files)
        assert_filled_once(connection, files)
