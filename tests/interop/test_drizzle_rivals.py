"""drizzle-orm 0.45 started in the middle of our run: it knows neither our lock nor our progress."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import psycopg

from mosaic_gateway.migrations import Bundle, migrate
from mosaic_gateway.migrations.events import Event, MigrationApplied, PlanComputed, StatementApplied
from mosaic_gateway.migrations.model import Migration
from mosaic_gateway.migrations.parse import file_hash, split
from mosaic_gateway.migrations.runner import read_plan

if TYPE_CHECKING:
    from tests.interop.conftest import Drizzle, Outcome

MARK = "--> statement-breakpoint\n"
LEDGER = Bundle.load("gateway").ledger
FIRST_WHEN = 1745280000000
LIMIT = 30.0  # seconds
DUPLICATE = {"42P07", "23505"}  # duplicate_table, or the catalog's own unique index


@dataclass
class Files:
    """Migrations from their texts."""

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
        """As ours takes them."""
        return Bundle(name="test", ledger=LEDGER, migrations=tuple(self.migrations))

    def folder(self, drizzle: Drizzle, path: Path) -> Path:
        """As drizzle takes them."""
        return drizzle.folder(path, [(m, t.encode()) for m, t in zip(self.migrations, self.texts, strict=True)])


def once(wanted: type[Event], action: Callable[[], None]) -> Callable[[Event], None]:
    """Return a watcher that calls *action* at the first event of the kind *wanted*."""
    waiting = [action]

    def watch(event: Event) -> None:
        if isinstance(event, wanted) and waiting:
            waiting.pop()()

    return watch


def assert_applied_once(connection: psycopg.Connection[tuple[object, ...]], files: Files) -> None:
    """Hold notes and ledger against the files."""
    assert read_plan(connection, files.bundle).up_to_date
    found = connection.execute("SELECT hash FROM drizzle.__drizzle_migrations").fetchall()
    assert sorted(str(row[0]) for row in found) == sorted(m.hash for m in files.migrations)


def test_what_it_did_between_two_messages_is_not_done_again(drizzle045: Drizzle, database: str, tmp_path: Path) -> None:
    """It takes over what is left, statements that could be run twice among it; our run sees it and is content."""
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


def test_beside_a_half_applied_file_it_fails_and_ours_goes_on(
    drizzle045: Drizzle, database: str, tmp_path: Path
) -> None:
    """It begins the file again and meets our table: 42P07, all of its own is rolled back, nothing of ours is."""
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
    """Files of one chunk that makes a table, fills it, and takes its time."""
    return Files(
        [
            f"CREATE TABLE t{n} (n integer); INSERT INTO t{n} VALUES ({n}); SELECT pg_sleep({seconds});"
            for n in range(count)
        ]
    )


def assert_filled_once(connection: psycopg.Connection[tuple[object, ...]], files: Files) -> None:
    """Hold each of the `tables` against the one row that it must have."""
    for number in range(len(files.texts)):
        assert connection.execute(f"SELECT n FROM t{number}".encode()).fetchall() == [(number,)]


def wait_for_rows(connection: psycopg.Connection[tuple[object, ...]]) -> None:
    """Wait until somebody else has an open transaction that wrote to the ledger."""
    deadline = time.monotonic() + LIMIT
    query = """
        SELECT count(*) FROM pg_locks WHERE relation = 'drizzle.__drizzle_migrations'::regclass
        AND mode = 'RowExclusiveLock' AND granted AND pid <> pg_backend_pid()"""
    while connection.execute(query.encode()).fetchone() == (0,):
        assert time.monotonic() < deadline
        time.sleep(0.005)


def test_its_open_transaction_is_waited_for_and_taken_as_it_ends(
    drizzle045: Drizzle, database: str, tmp_path: Path
) -> None:
    """Our statement waits for its table, fails as the table is there then, and turns out to be applied."""
    files = tables(40, 0.02)
    folder = files.folder(drizzle045, tmp_path / "sql")
    rivals: list[subprocess.Popen[str]] = []
    with ExitStack() as stack, psycopg.connect(database, autocommit=True) as connection:

        def let_it_begin() -> None:
            rivals.append(stack.enter_context(drizzle045.started(folder, database)))
            wait_for_rows(connection)

        report = migrate(files.bundle, connection, on_event=once(MigrationApplied, let_it_begin))
        outcome = drizzle045.finish(rivals[0])
        assert outcome.ok, outcome
        assert 0 < len(report.applied) < len(files.texts)
        assert_applied_once(connection, files)
        assert_filled_once(connection, files)


def test_at_the_same_time_one_of_the_two_gives_way(drizzle045: Drizzle, database: str, tmp_path: Path) -> None:
    """Whoever comes second to a table is stopped by PostgreSQL: drizzle rolls back and fails, ours goes on."""
    files = tables(150, 0.01)
    folder = files.folder(drizzle045, tmp_path / "sql")
    rivals: list[subprocess.Popen[str]] = []
    with ExitStack() as stack, psycopg.connect(database, autocommit=True) as connection:
        start = partial(drizzle045.started, folder, database)
        migrate(
            files.bundle, connection, on_event=once(PlanComputed, lambda: rivals.append(stack.enter_context(start())))
        )
        outcome = drizzle045.finish(rivals[0])
        assert outcome.ok or outcome.code in DUPLICATE, outcome
        assert_applied_once(connection, files)
        assert_filled_once(connection, files)
