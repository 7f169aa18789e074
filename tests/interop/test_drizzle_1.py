"""drizzle-orm 1.0: its ledger with names, its order by name, and databases shared with 0.45."""

from __future__ import annotations

from pathlib import Path

import psycopg
from tests.interop.drizzle import Drizzle

from mosaic_gateway.migrations import Bundle, migrate
from mosaic_gateway.migrations.matching import drizzle_name
from mosaic_gateway.migrations.model import Migration
from mosaic_gateway.migrations.parse import file_hash, split

GATEWAY = Bundle.load("gateway")
NAMES = [drizzle_name(migration) for migration in GATEWAY.migrations]
UNDEFINED_OBJECT = "42704"


def first(count: int) -> Bundle:
    """Return the first *count* migrations of the gateway."""
    return Bundle(name="gateway", ledger=GATEWAY.ledger, migrations=GATEWAY.migrations[:count])


def ledger_of(connection: psycopg.Connection[tuple[object, ...]]) -> list[tuple[object, ...]]:
    """Return name, time (in seconds) and whether ``applied_at`` is set, for each row."""
    return connection.execute(
        "SELECT name, created_at / 1000, applied_at IS NOT NULL FROM drizzle.__drizzle_migrations ORDER BY id"
    ).fetchall()


def test_names_are_drizzle_kits() -> None:
    """The name is that of the folder in 1.0: ``when`` in UTC, and the part of the tag after its first underscore."""
    expected = {
        "0009_pending_grants": "20250422000000_pending_grants",
        "add_users": "20250422000000_users",  # prefix "none": drizzle-kit removes the first word too
        "20250101_x": "20250422000000_x",
    }
    for tag, name in expected.items():
        assert drizzle_name(Migration(tag=tag, when=1745280000999, hash="", statements=())) == name


def test_rows_on_its_ledger_have_name_and_time(drizzle1: Drizzle, database: str, tmp_path: Path) -> None:
    """On a ledger upgraded by 1.0, our rows are recognised by 1.0, which does not run the migrations again."""
    nine, everything = drizzle1.packaged(tmp_path / "nine", 9), drizzle1.packaged(tmp_path / "all")
    with psycopg.connect(database, autocommit=True) as connection:
        migrate(first(9), connection)
        assert drizzle1.run(nine, database).ok
        assert migrate(GATEWAY, connection).applied == ("0009_pending_grants",)
        before = ledger_of(connection)
        seconds = [migration.when // 1000 for migration in GATEWAY.migrations]
        assert before == list(zip(NAMES, seconds, [False] * 9 + [True], strict=True))
        assert drizzle1.run(everything, database).ok
        assert ledger_of(connection) == before


def test_its_order_by_name_fails_in_an_empty_database(drizzle1: Drizzle, database: str, tmp_path: Path) -> None:
    """In an empty database 1.0 begins with 0009, whose type does not exist yet; our runner uses the journal's order."""
    everything = drizzle1.packaged(tmp_path / "all")
    outcome = drizzle1.run(everything, database)
    assert (outcome.ok, outcome.code) == (False, UNDEFINED_OBJECT)
    with psycopg.connect(database, autocommit=True) as connection:
        assert len(migrate(GATEWAY, connection).applied) == 10
        assert [name for name, _, _ in ledger_of(connection)] == NAMES
    assert drizzle1.run(everything, database).ok


def test_names_missing_in_rows_of_045_are_filled_in(
    drizzle045: Drizzle, drizzle1: Drizzle, database: str, tmp_path: Path
) -> None:
    """0.45 writes rows without names to a ledger of 1.0, which would run those files again; our run adds the names."""
    with psycopg.connect(database, autocommit=True) as connection:
        migrate(first(5), connection)
    assert drizzle1.run(drizzle1.packaged(tmp_path / "five", 5), database).ok
    assert drizzle045.run(drizzle045.packaged(tmp_path / "nine-045", 9), database).ok
    nine = drizzle1.packaged(tmp_path / "nine", 9)
    assert drizzle1.run(nine, database).code == "42P07"  # duplicate_table
    with psycopg.connect(database, autocommit=True) as connection:
        assert migrate(GATEWAY, connection).applied == ("0009_pending_grants",)
        assert [name for name, _, _ in ledger_of(connection)] == NAMES
    assert drizzle1.run(drizzle1.packaged(tmp_path / "all"), database).ok


def test_duplicate_rows_of_two_concurrent_runs_are_accepted(drizzle1: Drizzle, database: str, tmp_path: Path) -> None:
    """It takes no lock: two concurrent runs may both insert their rows, and our runner accepts the duplicates."""
    text = "SELECT pg_sleep(0.5)"
    migrations = tuple(
        Migration(tag=f"000{number}_slow", when=when, hash=file_hash(text.encode()), statements=split(text))
        for number, when in enumerate((1745280000123, 1745290000456))
    )
    folder = drizzle1.folder(tmp_path / "slow", [(migration, text.encode()) for migration in migrations])
    bundle = Bundle(name="slow", ledger=GATEWAY.ledger, migrations=migrations)
    with psycopg.connect(database, autocommit=True) as connection:
        migrate(Bundle(name="slow", ledger=GATEWAY.ledger, migrations=()), connection)
        runs = [drizzle1.start(folder, database) for _ in range(2)]
        assert all(drizzle1.finish(run).ok for run in runs)
        assert migrate(bundle, connection).applied == ()
        found = ledger_of(connection)
        assert {name for name, _, _ in found} == {drizzle_name(migration) for migration in migrations}
