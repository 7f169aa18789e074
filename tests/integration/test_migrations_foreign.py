"""A rival that uses neither lock nor progress writes to the ledger; tests/interop uses the real drizzle-orm."""

from __future__ import annotations

import psycopg
import pytest

from mosaic_gateway.migrations.bundle import Bundle, LedgerName
from mosaic_gateway.migrations.events import Event, MigrationApplied
from mosaic_gateway.migrations.failure import StatementFailedError
from mosaic_gateway.migrations.matching import drizzle_name
from mosaic_gateway.migrations.model import Migration
from mosaic_gateway.migrations.parse import file_hash, split
from mosaic_gateway.migrations.runner import migrate, read_plan

Connection = psycopg.Connection[tuple[object, ...]]
LAST = 30


def bundle_of(*texts: str) -> Bundle:
    """Return a bundle of one file for each text."""
    migrations = tuple(
        Migration(
            tag=f"{n:04}_m{n}", when=1745280000123 + n * 1000, hash=file_hash(text.encode()), statements=split(text)
        )
        for n, text in enumerate(texts)
    )
    return Bundle(name="test", ledger=LedgerName("drizzle", "__drizzle_migrations"), migrations=migrations)


class Rival:
    """Applies the remaining migrations as drizzle-orm does, once, at the first `MigrationApplied` event."""

    def __init__(self, conninfo: str, bundle: Bundle) -> None:
        self._conninfo = conninfo
        self._bundle = bundle
        self.applied = 0

    def __call__(self, event: Event) -> None:
        """Run and record the missing migrations in one transaction."""
        if not isinstance(event, MigrationApplied) or self.applied:
            return
        with psycopg.connect(self._conninfo) as connection:
            recorded = {row[0] for row in connection.execute("SELECT hash FROM drizzle.__drizzle_migrations")}
            for migration in self._bundle.migrations:
                if migration.hash not in recorded:
                    connection.execute(migration.statements[0].sql.encode())
                    values = (migration.hash, migration.when)
                    query = "INSERT INTO drizzle.__drizzle_migrations (hash, created_at) VALUES (%s, %s)"
                    connection.execute(query, values)
                    self.applied += 1


def test_migrations_that_a_rival_recorded_are_not_run_again(database: str) -> None:
    """Statements that a rival ran between two messages run once; the report contains only those of this run."""
    bundle = bundle_of("CREATE TABLE notes (n integer)", *(f"INSERT INTO notes VALUES ({n})" for n in range(LAST)))
    rival = Rival(database, bundle)
    with psycopg.connect(database, autocommit=True) as connection:
        report = migrate(bundle, connection, on_event=rival)
        assert 0 < rival.applied == len(bundle.migrations) - len(report.applied)
        assert connection.execute("SELECT n FROM notes ORDER BY n").fetchall() == [(n,) for n in range(LAST)]
        assert read_plan(connection, bundle).up_to_date


def test_a_statement_that_fails_because_a_rival_ran_it_is_applied(database: str) -> None:
    """A table that a rival created while the statement waited counts as applied, not as a failure."""
    bundle = bundle_of("CREATE TABLE a ()", "CREATE TABLE b ()")
    second = bundle.migrations[1]
    with psycopg.connect(database, autocommit=True) as connection, psycopg.connect(database) as rival:
        migrate(bundle_of("CREATE TABLE a ()"), connection)
        rival.execute("CREATE TABLE b ()")
        query = "INSERT INTO drizzle.__drizzle_migrations (hash, created_at) VALUES (%s, %s)"
        rival.execute(query, (second.hash, second.when))

        def commit(event: Event) -> None:
            if event.name == "retry":
                rival.commit()

        report = migrate(bundle, connection, statement_lock_timeout=0.2, on_event=commit)
        assert report.applied == ()
        assert read_plan(connection, bundle).up_to_date


def test_a_failure_with_an_unchanged_ledger_is_reported(database: str) -> None:
    """A statement that fails by itself is reported, and the migration before it is applied."""
    bundle = bundle_of("CREATE TABLE a ()", "SELECT 1 / 0")
    with psycopg.connect(database, autocommit=True) as connection:
        with pytest.raises(StatementFailedError) as caught:
            migrate(bundle, connection)
        assert caught.value.applied == (bundle.migrations[0].tag,)


def test_missing_names_are_filled_in_on_a_ledger_of_drizzle_1(database: str) -> None:
    """drizzle-orm 0.45 inserts rows without a name, and 1.0 would run such files again."""
    bundle = bundle_of("CREATE TABLE a ()", "CREATE TABLE b ()", "CREATE TABLE c ()")
    first, second, third = bundle.migrations
    with psycopg.connect(database, autocommit=True) as connection:
        migrate(Bundle(name="test", ledger=bundle.ledger, migrations=(first, second)), connection)
        connection.execute(
            "ALTER TABLE drizzle.__drizzle_migrations ADD name text, ADD applied_at timestamptz DEFAULT now()"
        )
        connection.execute("UPDATE drizzle.__drizzle_migrations SET name = 'its own' WHERE id = 1")
        assert migrate(bundle, connection).applied == (third.tag,)
        names = connection.execute("SELECT name FROM drizzle.__drizzle_migrations ORDER BY id").fetchall()
        assert names == [("its own",), (drizzle_name(second),), (drizzle_name(third),)]


def test_rows_are_inserted_with_a_name_on_a_ledger_of_drizzle_1(database: str) -> None:
    """If a later statement fails or the run is killed, 1.0 does not run the recorded files again."""
    bundle = bundle_of("CREATE TABLE a ()", "CREATE TABLE b ()", "SELECT 1 / 0")
    first, second, _ = bundle.migrations
    with psycopg.connect(database, autocommit=True) as connection:
        migrate(Bundle(name="test", ledger=bundle.ledger, migrations=(first,)), connection)
        connection.execute(
            "ALTER TABLE drizzle.__drizzle_migrations ADD name text, ADD applied_at timestamptz DEFAULT now()"
        )
        with pytest.raises(StatementFailedError):
            migrate(bundle, connection)
        names = connection.execute("SELECT name FROM drizzle.__drizzle_migrations ORDER BY id").fetchall()
        assert names == [(None,), (drizzle_name(second),)]
