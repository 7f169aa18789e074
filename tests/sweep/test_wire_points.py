"""Runners that are killed at every message: before a query reaches the server, and before its answer arrives."""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import psycopg
import pytest
from tests.support.drizzle_folders import Folder, each_folder
from tests.support.postgres_server import PostgresServer
from tests.support.scratch import make_scratch
from tests.sweep.bundles import contents, write
from tests.sweep.runners import ForkServer
from tests.sweep.scale import PACKAGED, Bundles, CheckFinalState, Scale
from tests.sweep.wire import Wire

from mosaic_gateway.migrations.failure import UndecidedError

LIMIT = 30.0  # seconds
#: One folder of each kind of group, and those that run outside of a transaction: what the default run kills.
QUICK = {
    "03-lone-commit-concurrently", "04-begin-spans-chunks", "06-call-procedure-that-commits", "11-drizzle-1.0-layout",
    "16-temp-on-commit-drop", "18-set-local-search-path", "32-begin-transaction-after-others",
}  # fmt: skip
#: A procedure or block that commits by itself may have taken effect in part when its runner is killed.
UNDECIDABLE = {"06-call-procedure-that-commits", "28-do-block-that-commits"}
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


@pytest.fixture(scope="module")
def wire(postgres_server: PostgresServer, scratch_root: Path) -> Iterator[Wire]:
    """The proxy before the server."""
    with Wire.open(postgres_server.directory, make_scratch(scratch_root, "wire")) as opened:
        yield opened


@dataclass(frozen=True, slots=True)
class Killing:
    """Kills a runner over *bundle* at a message."""

    server: PostgresServer
    fork_server: ForkServer
    wire: Wire
    bundle: Bundles

    def fresh(self) -> str:
        """Return the conninfo of a new database."""
        return self.server.conninfo(self.server.create_database(prefix="wire"))

    def points(self) -> list[int]:
        """Return the numbers of the messages before which a run can be stopped."""
        self.wire.rearm(lambda _message: False)
        assert self.fork_server.start(self.wire.conninfo(self.fresh()), self.bundle).wait().error is None
        return [message.number for message in self.wire.seen if message.boundary]

    @contextmanager
    def killed_at(self, point: int) -> Iterator[str]:
        """Kill a runner at the message *point*; the conninfo of its database is valid in the block."""
        conninfo = self.fresh()
        self.wire.rearm(lambda message: message.number == point)
        runner = self.fork_server.start(self.wire.conninfo(conninfo), self.bundle)
        assert self.wire.frozen.wait(LIMIT), f"message {point} did not come"
        assert runner.kill().killed
        yield conninfo
        self.server.drop_database(conninfo)


@pytest.mark.parametrize("bundle_name", ["packaged", "outside"])
def test_killed_at_every_message(
    postgres_server: PostgresServer,
    fork_server: ForkServer,
    outside: Bundles,
    check_final_state: CheckFinalState,
    scale: Scale,
    wire: Wire,
    bundle_name: str,
) -> None:
    """A runner may be killed before any query and before any answer, including that of COMMIT."""
    bundle = PACKAGED if bundle_name == "packaged" else outside
    killing = Killing(postgres_server, fork_server, wire, bundle)
    points = killing.points()
    assert len(points) > 60
    for point in points[:: scale.step]:
        with killing.killed_at(point) as conninfo:
            check_final_state(conninfo, bundle)


@each_folder
def test_real_folders_killed_at_every_message(
    postgres_server: PostgresServer,
    fork_server: ForkServer,
    check_final_state: CheckFinalState,
    scale: Scale,
    wire: Wire,
    folder: Folder,
) -> None:
    """The same for folders as public repositories have them. The default run takes one message of some."""
    if scale.step != 1 and folder.name not in QUICK:
        pytest.skip("runs with --whole")
    bundle = (str(folder.path),)
    killing = Killing(postgres_server, fork_server, wire, bundle)
    points = killing.points()
    for point in points if scale.step == 1 else [random.choice(points)]:
        with killing.killed_at(point) as conninfo:
            if folder.name in UNDECIDABLE:
                end = fork_server.start(conninfo, bundle).wait()
                if end.error == UndecidedError.code:
                    continue
                assert end.error is None, end.message
            check_final_state(conninfo, bundle)
            with psycopg.connect(conninfo, autocommit=True) as connection:
                folder.check(connection)
