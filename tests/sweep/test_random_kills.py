"""Runners that are killed at random times until the migrations of a database are applied; then the next database."""

from __future__ import annotations

import random
import time

import psycopg
from tests.support.postgres_server import PostgresServer
from tests.sweep.runners import ForkServer
from tests.sweep.scale import Bundles, CheckFinalState, Scale

LIMIT = 600.0  # seconds


def applied(conninfo: str) -> int:
    """Return how many statements are recorded as applied."""
    with psycopg.connect(conninfo, autocommit=True) as connection:
        if connection.execute("SELECT to_regclass('mosaic.migration_progress')").fetchone() == (None,):
            return 0
        row = connection.execute("SELECT coalesce(sum(applied), 0)::int FROM mosaic.migration_progress").fetchone()
        return int(str(row[0])) if row else 0


def test_killed_at_random(
    postgres_server: PostgresServer,
    fork_server: ForkServer,
    bundle: Bundles,
    check_final_state: CheckFinalState,
    scale: Scale,
) -> None:
    """After any number of kills, the last run has the result of an uninterrupted one."""
    kills, within = 0, 0
    longest = 0.12  # seconds until a kill; adapted, as the speed of a run depends on the load of the machine
    deadline = time.monotonic() + LIMIT

    def enough() -> bool:
        """Return whether enough runners were killed, and at least a third of them during their run."""
        return kills >= scale.random_kills and within > kills // 3

    while not enough():
        conninfo = postgres_server.conninfo(postgres_server.create_database(prefix="killed"))
        while not enough():
            assert time.monotonic() < deadline
            runner = fork_server.start(conninfo, bundle)
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
        check_final_state(conninfo, bundle)
