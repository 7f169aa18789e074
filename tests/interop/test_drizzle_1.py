"""drizzle-orm 1.0: its ledger with names, its order by names, and mixtures of it with 0.45."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import psycopg

from mosaic_gateway.migrations import Bundle, migrate
from mosaic_gateway.migrations.ledger import drizzle_name
from mosaic_gateway.migrations.model import Migration
from mosaic_gateway.migrations.parse import file_hash, split

if TYPE_CHECKING:
    from tests.interop.conftest import Drizzle

GATEWAY = Bundle.load("gateway")
NAMES = [drizzle_name(migration) for migration in GATEWAY.migrations]
UNDEFINED_OBJECT = "42704"


def first(count: int) -> Bundle:
    """Return the first *count* migrations of the gateway."""
    return Bundle(name="gateway", ledger=GATEWAY.ledger, migrations=GATEWAY.migrations[:count])


def ledger_of(connection: psycopg.Connection[tuple[object, ...]]) -> list[tuple[object, ...]]:
    """Return name, time (in seconds) and whether the row says when it was applied."""
    return connection.execute(
        "SELECT name, created_at / 1000, applied_at IS NOT NULL FROM drizzle.__drizzle_migrations ORDER BY id"
    ).fetchall()


def test_names_are_drizzle_kits() -> None:
    """The name is the moved folder's: the time of ``when`` in UTC, and the tag after its first underscore."""
    expected = {
        "0009_pending_grants": "20250422000000_pending_grants",
        "add_users": "20250422000000_users",  # prefix "none": drizzle-kit cuts there too
        "20250101_x": "20250422000000_x",
    }
    for tag, name in expected.items():
        assert drizzle_name(Migration(tag=tag, when=1745280000999, hash="", statements=())) == name


def test_a_row_on_its_ledger_has_name_and_time(drizzle1: Drizzle, database: str, tmp_path: Path) -> None:
    """On the ledger that 1.0 upgraded, ours writes rows that 1.0 knows: it does not run them again."""
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


def test_its_order_by_name_fails_where_ours_does_not(drizzle1: Drizzle, database: str, tmp_path: Path) -> None:
    """In an empty database 1.0 begins with 0009, whose type is not there yet; ours keeps to the journal."""
    everything = drizzle1.packaged(tmp_path / "all")
    outcome = drizzle1.run(everything, database)
    assert (outcome.ok, outcome.code) == (False, UNDEFINED_OBJECT)
    with psycopg.connect(database, autocommit=True) as connection:
        assert len(migrate(GATEWAY, connection).applied) == 10
        assert [name for name, _, _ in ledger_of(connection)] == NAMES
    assert drizzle1.run(everything, database).ok


def test_rows_that_045_left_without_a_name_get_one(
    drizzle045: Drizzle, drizzle1: Drizzle, database: str, tmp_path: Path
) -> None:
    """0.45 writes no names on the ledger of 1.0, which would run those files again; our run mends that."""
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


def test_what_two_of_its_runs_recorded_twice_is_known(drizzle1: Drizzle, database: str, tmp_path: Path) -> None:
    """It takes no lock: of two runs at once both may write their rows, and ours takes them for what they are."""
    text = "SELECT pg_sleep(0.5)"
    migrations = tuple(
        Migration(tag=f"000{number}_slow", when=when, hash=file_hash(text.encode()), statements=split(text))
        for number, when in enumerate((1745280000123, 1745290000456))
    )
    folder = drizzle1.folder(tmp_path / "slow", [(migration, text.encode()) for migration in migrations])
    bundle = Bundle(name="slow", ledger=GATEWAY.ledger, migrations=migrations)
    with psycopg.connect(database, autocommit=True) as connection:
        migrate(Bundle(name="slow", ledger=GATEWAY.ledger, migrations=()), connection)
        with drizzle1.started(folder, database) as one, drizzle1.started(folder, database) as other:
            for process in (one, other):
                assert process.wait(60) == 0
        assert migrate(bundle, connection).applied == ()
        found = ledger_of(connection)
        assert {name for name, _, _ in found} == {drizzle_name(migration) for migration in migrations}
