"""Runners that are killed at every message: before a query reaches the server, and before its answer arrives."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.support.postgres_server import PostgresServer
from tests.sweep.bundles import contents, write
from tests.sweep.runners import ForkServer
from tests.sweep.scale import PACKAGED, Bundles, CheckFinalState, Scale
from tests.sweep.wire import Message, Wire

LIMIT = 30.0  # seconds
#: Each kind of nontransactional statement, ordinary ones in between, settings, an empty file, and groups.
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
    ("INSERT INTO t VALUES (4, 4)", "SET LOCAL search_path = s", "CREATE TABLE grouped (n integer)",
     "INSERT INTO grouped SELECT count(*) FROM public.t"),
    ("BEGIN; INSERT INTO t VALUES (5, 5)", "UPDATE t SET b = b + 1", "COMMIT", "CREATE INDEX CONCURRENTLY ON t (b)",
     "CREATE TEMP TABLE plan (n integer) ON COMMIT DROP; BEGIN; INSERT INTO t VALUES (6, 6)", "UPDATE t SET b = b + 1"),
    ("SET my.flag = 'x'", "START TRANSACTION; SET LOCAL search_path = s; SET my.other = 'y'; COMMIT",
     "INSERT INTO t SELECT length(current_setting('my.flag') || current_setting('my.other')), 7",
     "VACUUM t", "CREATE TABLE late (n integer)"),
    ("INSERT INTO t VALUES (8, 8)",),
]  # fmt: skip


@pytest.fixture(scope="session")
def outside(tmp_path_factory: pytest.TempPathFactory) -> Bundles:
    """The bundle of nontransactional statements."""
    return (str(write(tmp_path_factory.mktemp("outside"), contents(FILES))),)


@pytest.mark.parametrize("bundle_name", ["packaged", "outside"])
def test_killed_at_every_message(
    postgres_server: PostgresServer,
    fork_server: ForkServer,
    outside: Bundles,
    check_final_state: CheckFinalState,
    scale: Scale,
    scratch: Path,
    bundle_name: str,
) -> None:
    """A runner may be killed before any query and before any answer, including that of COMMIT."""
    bundle = PACKAGED if bundle_name == "packaged" else outside

    with Wire.open(postgres_server.directory, scratch) as wire:

        def fresh() -> str:
            return postgres_server.conninfo(postgres_server.create_database(prefix="wire"))

        assert fork_server.start(wire.conninfo(fresh()), bundle).wait().error is None
        points = [message.number for message in wire.seen if message.boundary]
        assert len(points) > 60
        for point in points[:: scale.step]:

            def stop(message: Message, point: int = point) -> bool:
                return message.number == point

            conninfo = fresh()
            wire.rearm(stop)
            runner = fork_server.start(wire.conninfo(conninfo), bundle)
            assert wire.frozen.wait(LIMIT), f"message {point} did not come"
            assert runner.kill().killed
            check_final_state(conninfo, bundle)
