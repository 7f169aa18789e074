"""Behaviour that is specific to drizzle-orm 0.45, which the npm gateway uses."""

from __future__ import annotations

from pathlib import Path

import psycopg
from tests.interop.drizzle import Drizzle

from mosaic_gateway.migrations import Bundle, migrate
from mosaic_gateway.migrations.runner import read_plan

GATEWAY = Bundle.load("gateway")


def test_a_new_enum_value_works_in_an_empty_database(drizzle045: Drizzle, database: str, tmp_path: Path) -> None:
    """A new enum value may be used if its type was created in the same transaction; our run then has nothing to do."""
    outcome = drizzle045.run(drizzle045.packaged(tmp_path / "sql"), database)
    assert outcome.ok, outcome
    with psycopg.connect(database, autocommit=True) as connection:
        assert migrate(GATEWAY, connection).applied == ()
        schema = connection.execute("SELECT to_regnamespace('mosaic')").fetchone()
        assert schema == (None,), "a run with nothing to do must not create the schema"


def test_drizzle_silently_skips_a_migration_with_an_older_when(
    drizzle045: Drizzle, database: str, tmp_path: Path
) -> None:
    """0009 is older than 0008: drizzle reports success and never runs it; our runner runs it."""
    assert drizzle045.run(drizzle045.packaged(tmp_path / "nine", 9), database).ok
    everything = drizzle045.packaged(tmp_path / "all")
    for _ in range(2):
        assert drizzle045.run(everything, database).ok
        with psycopg.connect(database, autocommit=True) as connection:
            assert [p.migration.tag for p in read_plan(connection, GATEWAY).pending] == ["0009_pending_grants"]
    with psycopg.connect(database, autocommit=True) as connection:
        assert migrate(GATEWAY, connection).applied == ("0009_pending_grants",)
