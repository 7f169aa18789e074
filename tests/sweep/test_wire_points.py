"""Runners that are killed at every message: before a query reaches the server, and before its answer comes back."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.conftest import PostgresServer
from tests.sweep.bundles import contents, write
from tests.sweep.conftest import PACKAGED, Bundles, CheckEnd, Scale
from tests.sweep.runners import Nursery
from tests.sweep.wire import Message, Wire

LIMIT = 30.0  # seconds
#: Each kind of statement outside of transactions, ordinary ones between, settings, a file of nothing.
FILES = [
    ("CREATE TABLE t (a integer, b integer)", "INSERT INTO t VALUES (1, 1)"),
    ("CREATE INDEX CONCURRENTLY t_a ON t (a)", "INSERT INTO t VALUES (2, 2)", "CREATE INDEX CONCURRENTLY ON t (b)"),
    ("INSERT INTO t VALUES (3, 3)", "CREATE UNIQUE INDEX CONCURRENTLY ON t (a, b)"),
    ("REINDEX INDEX CONCURRENTLY t_a", "VACUUM t", "DROP INDEX CONCURRENTLY t_a"),
    ("",),
    ("CREATE SCHEMA s", "SET search_path = s", "CREATE TABLE u (n integer)", "INSERT INTO u VALUES (1)",
     "CREATE INDEX CONCURRENTLY u_n ON u (n)"),
    ("CREATE TABLE p (n integer) PARTITION BY RANGE (n)",
     "CREATE TABLE p1 PARTITION OF p FOR VALUES FROM (0) TO (10)",
     "ALTER TABLE p DETACH PARTITION p1 CONCURRENTLY"),
    ("INSERT INTO t VALUES (4, 4)",),
]  # fmt: skip


@pytest.fixture(scope="session")
def outside(tmp_path_factory: pytest.TempPathFactory) -> Bundles:
    """The bundle of statements outside of transactions."""
    return (str(write(tmp_path_factory.mktemp("outside"), contents(FILES))),)


@pytest.mark.parametrize("which", ["packaged", "outside"])
def test_killed_at_every_message(
    postgres_server: PostgresServer,
    nursery: Nursery,
    outside: Bundles,
    check_end: CheckEnd,
    scale: Scale,
    scratch: Path,
    which: str,
) -> None:
    """No message is the wrong one to die at; and no answer, that of COMMIT included, the wrong one to miss."""
    bundle = PACKAGED if which == "packaged" else outside

    with Wire.open(postgres_server.directory, scratch) as wire:

        def fresh() -> str:
            return postgres_server.conninfo(postgres_server.create_database(prefix="wire"))

        assert nursery.start(wire.conninfo(fresh()), bundle).wait().error is None
        points = [message.number for message in wire.seen if message.boundary]
        assert len(points) > 60
        for point in points[:: scale.step]:

            def stop(message: Message, point: int = point) -> bool:
                return message.number == point

            conninfo = fresh()
            wire.rearm(stop)
            runner = nursery.start(wire.conninfo(conninfo), bundle)
            assert wire.frozen.wait(LIMIT), f"message {point} did not come"
            assert runner.kill().killed
            check_end(conninfo, bundle)
