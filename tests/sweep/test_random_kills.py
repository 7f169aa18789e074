"""Runners that are killed at random instants, again and again, until the database is done; then the next."""

from __future__ import annotations

import random
import time

import psycopg
from tests.conftest import PostgresServer
from tests.sweep.conftest import Bundles, CheckEnd, Scale
from tests.sweep.runners import Nursery

LIMIT = 600.0  # seconds


def applied(conninfo: str) -> int:
    """Return how many statements are recorded as applied."""
    with psycopg.connect(conninfo, autocommit=True) as connection:
        if connection.execute("SELECT to_regclass('mosaic.migration_progress')").fetchone() == (None,):
            return 0
        row = connection.execute("SELECT coalesce(sum(applied), 0)::int FROM mosaic.migration_progress").fetchone()
        return int(str(row[0])) if row else 0


def test_killed_at_random(
    postgres_server: PostgresServer, nursery: Nursery, bundle: Bundles, check_end: CheckEnd, scale: Scale
) -> None:
    """However often and wherever it was killed, the last run ends where an undisturbed one does."""
    kills, within, databases = 0, 0, 0
    deadline = time.monotonic() + LIMIT
    while kills < scale.random_kills:
        conninfo = postgres_server.conninfo(postgres_server.create_database(prefix="killed"))
        databases += 1
        while kills < scale.random_kills:
            assert time.monotonic() < deadline
            runner = nursery.start(conninfo, bundle)
            time.sleep(random.uniform(0.01, 0.12))  # noqa: S311
            end = runner.kill()
            if not end.killed:
                assert end.error is None, end.message
                break
            kills += 1
            within += applied(conninfo) > 0
        check_end(conninfo, bundle)
    assert within > kills // 3, f"too few of {kills} runners were killed in their run for this to prove anything"
