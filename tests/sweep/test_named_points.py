"""Runners that are killed while the server waits inside a statement's transaction, at a named point."""

from __future__ import annotations

from collections.abc import Iterator

import psycopg
import pytest
from tests.support.postgres_server import PostgresServer
from tests.sweep import gates
from tests.sweep.bundles import contents, write
from tests.sweep.runners import ForkServer
from tests.sweep.scale import Bundles
from tests.sweep.state import Fingerprint, differences, fingerprint

FILES = [
    ("CREATE TABLE t (n integer)", "CREATE TABLE counter AS SELECT 0 AS n"),
    ("UPDATE counter SET n = n + 1", "CREATE VIEW seen AS SELECT n FROM counter", "INSERT INTO t VALUES (1)"),
    ("INSERT INTO t VALUES (2)", "CREATE SEQUENCE last"),
    ("INSERT INTO t VALUES (3)",),
    ("INSERT INTO t VALUES (4)", "BEGIN; INSERT INTO t VALUES (5)", "CREATE DOMAIN whole AS integer",
     "INSERT INTO t VALUES (6)", "COMMIT", "INSERT INTO t VALUES (7)"),
]  # fmt: skip
EXIT_LIMIT = 5.0  # seconds; it usually takes about 0.2


@pytest.fixture(scope="session")
def gated(tmp_path_factory: pytest.TempPathFactory) -> Bundles:
    """A small bundle with a statement in the middle of a file, one at its end, and a group that can be stopped."""
    return (str(write(tmp_path_factory.mktemp("gated"), contents(FILES))),)


@pytest.fixture(scope="session")
def expected(postgres_server: PostgresServer, fork_server: ForkServer, gated: Bundles) -> Iterator[Fingerprint]:
    """The fingerprint after an uninterrupted run."""
    conninfo = postgres_server.conninfo(postgres_server.create_database())
    assert fork_server.start(conninfo, gated).wait().error is None
    with psycopg.connect(conninfo, autocommit=True) as connection:
        yield fingerprint(connection)


@pytest.mark.parametrize(
    ("tag", "before", "after", "kind"),
    [("0001_file", 1, 2, "CREATE VIEW"), ("0002_file", 1, 2, "CREATE SEQUENCE"), ("0004_file", 1, 5, "CREATE DOMAIN")],
    ids=["middle", "last", "group"],
)
@pytest.mark.parametrize("point", gates.POINTS)
def test_killed_at(
    database: str,
    fork_server: ForkServer,
    gated: Bundles,
    expected: Fingerprint,
    point: str,
    tag: str,
    before: int,
    after: int,
    kind: str,
) -> None:
    """At any point the statement or the group is rolled back with its count; the backend exits by itself."""
    number = gates.POINTS[point]
    with psycopg.connect(database, autocommit=True) as connection:
        gates.build(connection, tag, after, kind)
    with gates.closed(database, number) as connection:
        runner = fork_server.start(database, gated)
        pid = gates.wait_for_runner(connection)
        assert runner.kill().killed
        assert gates.seconds_until_gone(connection, pid) < EXIT_LIMIT
        row = connection.execute("SELECT applied FROM mosaic.migration_progress WHERE tag = %s", (tag,)).fetchone()
        if point != gates.AT_LEDGER_ROW:
            assert row == (before,)
    assert fork_server.start(database, gated).wait().error is None
    with psycopg.connect(database, autocommit=True) as connection:
        gates.remove(connection)
        assert differences(fingerprint(connection), expected) == []
