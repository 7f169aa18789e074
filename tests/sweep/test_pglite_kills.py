"""The sweep on PGlite: runners, and the sidecar under them, are killed at random instants until all is done."""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psycopg
import pytest
from tests.conftest import PgliteServer, pglite_server
from tests.sweep.conftest import Bundles, Scale
from tests.sweep.runners import Nursery
from tests.sweep.state import Fingerprint, differences, fingerprint

from mosaic_gateway.installation.layout import Home

LIMIT = 1200.0  # seconds
LOST = {None, "MIGRATION_CONNECTION_LOST", "OPERATIONAL"}

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def server(pglite_home: Home, scratch_root: Path) -> Iterator[PgliteServer]:
    """A sidecar of our own, to be killed."""
    with pglite_server(pglite_home, scratch_root) as started:
        yield started


@pytest.fixture(scope="module")
def expected(server: PgliteServer, nursery: Nursery) -> Callable[[Bundles], Fingerprint]:
    """Return what gives the fingerprint after one run that nobody disturbed."""
    known: dict[Bundles, Fingerprint] = {}

    def reference(names: Bundles) -> Fingerprint:
        if names not in known:
            server.empty()
            assert nursery.start(server.conninfo, names, mode="alone").wait().error is None
            known[names] = contents(server)
        return known[names]

    return reference


def contents(server: PgliteServer) -> Fingerprint:
    """Return what the database holds."""
    with psycopg.connect(server.conninfo, autocommit=True) as connection:
        return fingerprint(connection)


def check_end(server: PgliteServer, nursery: Nursery, names: Bundles, wanted: Fingerprint) -> None:
    """Run once more, to the end, without any manual step, and compare."""
    end = nursery.start(server.conninfo, names, mode="alone").wait()
    assert end.error is None, end.message
    assert differences(contents(server), wanted) == []


@pytest.mark.parametrize("victim", ["runner", "sidecar"])
def test_killed_at_random(
    server: PgliteServer,
    nursery: Nursery,
    bundle: Bundles,
    expected: Callable[[Bundles], Fingerprint],
    scale: Scale,
    victim: str,
) -> None:
    """However often and wherever one of the two was killed, the last run ends where an undisturbed one does."""
    wanted = expected(bundle)
    wished = (scale.random_kills if victim == "runner" else scale.server_kills) // 3 + 1
    kills, longest = 0, 0.5
    deadline = time.monotonic() + LIMIT
    while kills < wished:
        server.empty()
        done = False
        while kills < wished and not done:
            assert time.monotonic() < deadline
            runner = nursery.start(server.conninfo, bundle, mode="alone")
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
        check_end(server, nursery, bundle, wanted)
