"""Fixtures of the kill sweep. ``pytest tests/sweep --whole`` runs all of it; without it a part of a few seconds.

``scale``      How much of the sweep runs.
``nursery``    Starts runners in processes of their own (session).
``undisturbed`` What a database holds after a run that nobody disturbed, by bundle (session).
``check_end``   Runs once more, to the end, and holds the database against ``undisturbed``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import psycopg
import pytest
from tests.conftest import PostgresServer
from tests.sweep import bundles
from tests.sweep.runners import Nursery
from tests.sweep.state import Fingerprint, differences, fingerprint

Bundles = tuple[str, ...]
CheckEnd = Callable[[str, Bundles], None]
PACKAGED: Bundles = ("gateway", "storage")


@dataclass(frozen=True, slots=True, kw_only=True)
class Scale:
    """How often to kill: ``random_kills`` runners, ``server_kills`` servers, at each ``step``-th point of the wire.

    Of installations: ``verb_kills`` verbs, ``full_disks`` disks, ``soak`` seconds of sign-ins with kills.
    """

    random_kills: int
    server_kills: int
    step: int
    verb_kills: int
    full_disks: int
    soak: float


@pytest.fixture(scope="session")
def scale(request: pytest.FixtureRequest) -> Scale:
    """How much of the sweep runs."""
    if request.config.getoption("--whole"):
        return Scale(random_kills=300, server_kills=60, step=1, verb_kills=60, full_disks=30, soak=1080.0)
    return Scale(random_kills=15, server_kills=3, step=29, verb_kills=2, full_disks=2, soak=10.0)


@pytest.fixture(scope="session")
def nursery() -> Iterator[Nursery]:
    """Runners in processes of their own."""
    with Nursery.open() as opened:
        yield opened


@pytest.fixture(scope="session")
def generated(tmp_path_factory: pytest.TempPathFactory) -> Bundles:
    """The directory of the bundle of 400 statements."""
    return (str(bundles.write(tmp_path_factory.mktemp("generated"), bundles.generated())),)


@pytest.fixture(params=["packaged", "generated"])
def bundle(request: pytest.FixtureRequest, generated: Bundles) -> Bundles:
    """Our ten migrations and storage's; and the bundle of 400 statements."""
    return PACKAGED if request.param == "packaged" else generated


@pytest.fixture(scope="session")
def undisturbed(postgres_server: PostgresServer, nursery: Nursery) -> Callable[[Bundles], Fingerprint]:
    """Return what gives the fingerprint after one run that nobody disturbed."""
    known: dict[Bundles, Fingerprint] = {}

    def reference(names: Bundles) -> Fingerprint:
        if names not in known:
            conninfo = postgres_server.conninfo(postgres_server.create_database(prefix="reference"))
            assert nursery.start(conninfo, names).wait().error is None
            with psycopg.connect(conninfo, autocommit=True) as connection:
                known[names] = fingerprint(connection)
        return known[names]

    return reference


@pytest.fixture(scope="session")
def check_end(nursery: Nursery, undisturbed: Callable[[Bundles], Fingerprint]) -> CheckEnd:
    """Return what runs to the end without any manual step and compares with the undisturbed run."""

    def check(conninfo: str, names: Bundles) -> None:
        expected = undisturbed(names)
        end = nursery.start(conninfo, names).wait()
        assert end.error is None, end.message
        with psycopg.connect(conninfo, autocommit=True) as connection:
            found = fingerprint(connection)
        assert differences(found, expected) == []
        assert all(valid and ready for *_, valid, ready in found["indexes"])

    return check
