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
    kills, within = 0, 0
    longest = 0.12  # seconds until a kill; how long it takes to get anywhere depends on what else the machine does
    deadline = time.monotonic() + LIMIT

    def enough() -> bool:
        """Too few that were killed in their run would prove nothing."""
        return kills >= scale.random_kills and within > kills // 3

    while not enough():
        conninfo = postgres_server.conninfo(postgres_server.create_database(prefix="killed"))
        while not enough():
            assert time.monotonic() < deadline
            runner = nursery.start(conninfo, bundle)
            time.sleep(random.uniform(0.01, longest))
            end = runner.kill()
            if not end.killed:
                assert end.error is None, end.message
                longest = max(longest * 0.8, 0.05)
                break
            kills += 1
            reached = applied(conninfo) > 0
            within += reached
            longest *= 1 if reached else 1.3
        check_end(conninfo, bundle)
