"""drizzle-orm 0.45, which the npm gateway uses: what only this line does."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import psycopg

from mosaic_gateway.migrations import Bundle, migrate
from mosaic_gateway.migrations.runner import read_plan

if TYPE_CHECKING:
    from tests.interop.conftest import Drizzle

GATEWAY = Bundle.load("gateway")


def test_a_fresh_install_hides_the_enum_failure(drizzle045: Drizzle, database: str, tmp_path: Path) -> None:
    """Where the type is made in the same transaction the use is allowed; ours then finds nothing to do."""
    outcome = drizzle045.run(drizzle045.packaged(tmp_path / "sql"), database)
    assert outcome.ok, outcome
    with psycopg.connect(database, autocommit=True) as connection:
        assert migrate(GATEWAY, connection).applied == ()
        found = connection.execute("SELECT to_regnamespace('mosaic')").fetchone()
        assert found == (None,), "nothing to do, so nothing was made"


def test_a_reversed_when_is_skipped_in_silence_by_theirs_alone(
    drizzle045: Drizzle, database: str, tmp_path: Path
) -> None:
    """0009 lies before 0008: drizzle reports success and leaves it out for ever; ours has it pending and runs it."""
    assert drizzle045.run(drizzle045.packaged(tmp_path / "nine", 9), database).ok
    everything = drizzle045.packaged(tmp_path / "all")
    for _ in range(2):
        assert drizzle045.run(everything, database).ok
        with psycopg.connect(database, autocommit=True) as connection:
            assert [p.migration.tag for p in read_plan(connection, GATEWAY).pending] == ["0009_pending_grants"]
    with psycopg.connect(database, autocommit=True) as connection:
        assert migrate(GATEWAY, connection).applied == ("0009_pending_grants",)
