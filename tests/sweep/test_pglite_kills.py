"""The sweep on PGlite: runners and the sidecar are killed at random times until the migrations are applied."""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psycopg
import pytest
from tests.support.pglite_server import PgliteServer, pglite_server
from tests.sweep.runners import ForkServer
from tests.sweep.scale import Bundles, Scale
from tests.sweep.state import Fingerprint, differences, fingerprint

from mosaic_gateway.installation.layout import Home

LIMIT = 1200.0  # seconds
LOST = {None, "MIGRATION_CONNECTION_LOST", "OPERATIONAL"}

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def server(pglite_home: Home, scratch_root: Path) -> Iterator[PgliteServer]:
    """A separate sidecar, which the tests kill."""
    with pglite_server(pglite_home, scratch_root) as started:
        yield started


@pytest.fixture(scope="module")
def expected(server: PgliteServer, fork_server: ForkServer) -> Callable[[Bundles], Fingerprint]:
    """Return a function that returns the fingerprint after an uninterrupted run."""
    known: dict[Bundles, Fingerprint] = {}

    def reference(names: Bundles) -> Fingerprint:
        if names not in known:
            server.empty()
            assert fork_server.start(server.conninfo, names, mode="alone").wait().error is None
            known[names] = contents(server)
        return known[names]

    return reference


def contents(server: PgliteServer) -> Fingerprint:
    """Return the fingerprint of the database."""
    with psycopg.connect(server.conninfo, autocommit=True) as connection:
        return fingerprint(connection)


def check_final_state(server: PgliteServer, fork_server: ForkServer, names: Bundles, wanted: Fingerprint) -> None:
    """Run once more without manual steps, and compare the result."""
    end = fork_server.start(server.conninfo, names, mode="alone").wait()
    assert end.error is None, end.message
    assert differences(contents(server), wanted) == []


@pytest.mark.parametrize("victim", ["runner", "sidecar"])
def test_killed_at_random(
    server: PgliteServer,
    fork_server: ForkServer,
    bundle: Bundles,
    expected: Callable[[Bundles], Fingerprint],
    scale: Scale,
    victim: str,
) -> None:
    """After any number of kills of either process, the last run has the result of an uninterrupted one."""
    wanted = expected(bundle)
    kills_wanted = (scale.random_kills if victim == "runner" else scale.server_kills) // 3 + 1
    kills, longest = 0, 0.5
    deadline = time.monotonic() + LIMIT
    while kills < kills_wanted:
        server.empty()
        done = False
        while kills < kills_wanted and not done:
            assert time.monotonic() < deadline
            runner = fork_server.start(server.conninfo, bundle, mode="alone")
            time.sleep(random.uniform(0.02, longest))
            if victim == "runner":
                end = runner.kill()
                kills += end.killed
                done = not end.killed
            else:
                server.kill()
                end = runner.wait()
                kills += end.error is not None
                done = end.error is None
                server.start()
            assert end.error in LOST, end.message
        check_final_state(server, fork_server, bundle, wanted)
