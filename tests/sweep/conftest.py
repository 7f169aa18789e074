"""Fixtures of the kill sweep. ``pytest tests/sweep --whole`` runs all of it; without the option a few seconds of it.

``scale``              How much of the sweep runs.
``fork_server``        Starts runners in separate processes (session).
``uninterrupted``      The contents of a database after an uninterrupted run, by bundle (session).
``check_final_state``  Runs once more, to the end, and compares the database with ``uninterrupted``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import psycopg
import pytest
from tests.support.postgres_server import PostgresServer
from tests.sweep import bundles
from tests.sweep.runners import ForkServer
from tests.sweep.scale import PACKAGED, Bundles, CheckFinalState, Scale
from tests.sweep.state import Fingerprint, differences, fingerprint


@pytest.fixture(scope="session")
def scale(request: pytest.FixtureRequest) -> Scale:
    """How much of the sweep runs."""
    if request.config.getoption("--whole"):
        return Scale(random_kills=300, server_kills=60, step=1, verb_kills=60, full_disks=30, soak=1080.0)
    return Scale(random_kills=15, server_kills=3, step=29, verb_kills=2, full_disks=2, soak=10.0)


@pytest.fixture(scope="session")
def fork_server() -> Iterator[ForkServer]:
    """Start runners in separate processes."""
    with ForkServer.open() as opened:
        yield opened


@pytest.fixture(scope="session")
def generated(tmp_path_factory: pytest.TempPathFactory) -> Bundles:
    """The directory of the bundle of 400 statements."""
    return (str(bundles.write(tmp_path_factory.mktemp("generated"), bundles.generated())),)


@pytest.fixture(params=["packaged", "generated"])
def bundle(request: pytest.FixtureRequest, generated: Bundles) -> Bundles:
    """The packaged bundles, and the bundle of 400 statements."""
    return PACKAGED if request.param == "packaged" else generated


@pytest.fixture(scope="session")
def uninterrupted(postgres_server: PostgresServer, fork_server: ForkServer) -> Callable[[Bundles], Fingerprint]:
    """Return a function that returns the fingerprint after an uninterrupted run."""
    known: dict[Bundles, Fingerprint] = {}

    def reference(names: Bundles) -> Fingerprint:
        if names not in known:
            conninfo = postgres_server.conninfo(postgres_server.create_database(prefix="reference"))
            assert fork_server.start(conninfo, names).wait().error is None
            with psycopg.connect(conninfo, autocommit=True) as connection:
                known[names] = fingerprint(connection)
        return known[names]

    return reference


@pytest.fixture(scope="session")
def check_final_state(fork_server: ForkServer, uninterrupted: Callable[[Bundles], Fingerprint]) -> CheckFinalState:
    """Return a function that runs once more without manual steps and compares with the uninterrupted run."""

    def check(conninfo: str, names: Bundles) -> None:
        expected = uninterrupted(names)
        end = fork_server.start(conninfo, names).wait()
        assert end.error is None, end.message
        with psycopg.connect(conninfo, autocommit=True) as connection:
            found = fingerprint(connection)
        assert differences(found, expected) == []
        assert all(valid and ready for *_, valid, ready in found["indexes"])

    return check
