"""Servers that are killed under a runner, restarted, and killed again, until the database is done."""

from __future__ import annotations

import itertools
import random
import signal
import time
from collections.abc import Callable

import pytest
from tests.conftest import PostgresServer, RunServer, start_server, stop_server
from tests.sweep.conftest import Bundles, CheckEnd, Scale
from tests.sweep.runners import Nursery
from tests.sweep.state import Fingerprint

LIMIT = 600.0  # seconds
LOST = {None, "MIGRATION_CONNECTION_LOST", "OPERATIONAL"}
FLUSHED = {"fsync": "off", "wal_writer_delay": "200ms"}


@pytest.mark.parametrize("how", [signal.SIGQUIT, signal.SIGKILL], ids=["SIGQUIT", "SIGKILL"])
def test_the_server_is_killed_at_random(
    run_server: RunServer,
    nursery: Nursery,
    bundle: Bundles,
    undisturbed: Callable[[Bundles], Fingerprint],
    check_end: CheckEnd,
    scale: Scale,
    how: signal.Signals,
) -> None:
    """What was not flushed is lost, count and effect alike; the runner says that the connection was lost."""
    undisturbed(bundle)
    kills, numbers = 0, itertools.count()
    deadline = time.monotonic() + LIMIT
    with run_server(f"killed-{how.name}-{len(bundle)}", settings=FLUSHED) as server:
        while kills < scale.server_kills:
            database = server.conninfo(server.create_database(prefix=f"after_{next(numbers)}"))
            while kills < scale.server_kills:
                assert time.monotonic() < deadline
                runner = nursery.start(database, bundle)
                time.sleep(random.uniform(0.02, 0.25))
                server.process.send_signal(how)
                end = runner.wait()
                assert end.error in LOST, end.message
                kills += end.error is not None
                server = restarted(server)  # noqa: PLW2901 - the same cluster
                if end.error is None:
                    break
            check_end(database, bundle)
        stop_server(server)


def test_what_was_reported_is_on_disk(run_server: RunServer, nursery: Nursery, bundle: Bundles) -> None:
    """A run that ended well survives the server, killed at once, whose log is written out but once in ten seconds."""
    with run_server(f"reported-{len(bundle)}", settings={**FLUSHED, "wal_writer_delay": "10s"}) as server:
        database = server.conninfo(server.create_database())
        applied = nursery.start(database, bundle).wait().applied
        assert applied
        server.process.send_signal(signal.SIGKILL)
        again = restarted(server)
        assert nursery.start(database, bundle).wait().applied == ()
        stop_server(again)


def restarted(server: PostgresServer) -> PostgresServer:
    """Start the server of a killed postmaster again, as soon as its last child is gone."""
    server.process.wait(30)
    deadline = time.monotonic() + 30
    while True:
        try:
            return start_server(server.directory, server.bindir, settings=FLUSHED)
        except pytest.fail.Exception:
            assert time.monotonic() < deadline
            time.sleep(0.05)
