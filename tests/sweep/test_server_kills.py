"""Servers that are killed during a run and restarted, until the migrations are applied."""

from __future__ import annotations

import itertools
import random
import signal
import time
from collections.abc import Callable

import pytest
from tests.support.postgres_server import PostgresServer, RunServer, start_server, stop_server
from tests.sweep.runners import ForkServer
from tests.sweep.scale import Bundles, CheckFinalState, Scale
from tests.sweep.state import Fingerprint

LIMIT = 600.0  # seconds
LOST = {None, "MIGRATION_CONNECTION_LOST", "OPERATIONAL"}
LAZY_FLUSH = {"fsync": "off", "wal_writer_delay": "200ms"}


@pytest.mark.parametrize("how", [signal.SIGQUIT, signal.SIGKILL], ids=["SIGQUIT", "SIGKILL"])
def test_the_server_is_killed_at_random(
    run_server: RunServer,
    fork_server: ForkServer,
    bundle: Bundles,
    uninterrupted: Callable[[Bundles], Fingerprint],
    check_final_state: CheckFinalState,
    scale: Scale,
    how: signal.Signals,
) -> None:
    """Unflushed commits are lost with both count and effect; the runner reports the lost connection."""
    uninterrupted(bundle)
    kills, numbers = 0, itertools.count()
    deadline = time.monotonic() + LIMIT
    with run_server(f"killed-{how.name}-{len(bundle)}", settings=LAZY_FLUSH) as server:
        while kills < scale.server_kills:
            database = server.conninfo(server.create_database(prefix=f"after_{next(numbers)}"))
            while kills < scale.server_kills:
                assert time.monotonic() < deadline
                runner = fork_server.start(database, bundle)
                time.sleep(random.uniform(0.02, 0.25))
                server.process.send_signal(how)
                end = runner.wait()
                assert end.error in LOST, end.message
                kills += end.error is not None
                server = restarted(server)  # noqa: PLW2901 - the same cluster
                if end.error is None:
                    break
            check_final_state(database, bundle)
        stop_server(server)


def test_reported_migrations_are_durable(run_server: RunServer, fork_server: ForkServer, bundle: Bundles) -> None:
    """A completed run survives an immediate kill of a server whose WAL writer runs only every ten seconds."""
    with run_server(f"reported-{len(bundle)}", settings={**LAZY_FLUSH, "wal_writer_delay": "10s"}) as server:
        database = server.conninfo(server.create_database())
        applied = fork_server.start(database, bundle).wait().applied
        assert applied
        server.process.send_signal(signal.SIGKILL)
        again = restarted(server)
        assert fork_server.start(database, bundle).wait().applied == ()
        stop_server(again)


def restarted(server: PostgresServer) -> PostgresServer:
    """Restart the server of a killed postmaster as soon as its last child process has exited."""
    server.process.wait(30)
    deadline = time.monotonic() + 30
    while True:
        try:
            return start_server(server.directory, server.bindir, settings=LAZY_FLUSH)
        except pytest.fail.Exception:
            assert time.monotonic() < deadline
            time.sleep(0.05)
