"""Fixtures for the contract suite: one engine of each kind, not yet started."""

from __future__ import annotations

import itertools
import socket
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager
from functools import cache
from pathlib import Path
from typing import Any

import psycopg
import pytest
from psycopg import sql
from psycopg.conninfo import make_conninfo
from tests.support.postgres_server import SYSTEM_SERVERS, PostgresServer, RunServer, settings_for

from mosaic_gateway.config import Config, Secret
from mosaic_gateway.engines.base import Engine
from mosaic_gateway.engines.factory import engine_for
from mosaic_gateway.installation.engine_name import EngineName
from mosaic_gateway.installation.layout import Home

SHIPPED = "shipped"
PASSWORD = "s3cret pässword%@/'"
FACTORIES = {
    EngineName.POSTGRES: "make_postgres",
    EngineName.PGLITE: "make_pglite_engine",
    EngineName.SERVER: "make_server",
}
NUMBERS = itertools.count(1)


@pytest.fixture(scope="session")
def scram_servers(run_server: RunServer) -> Iterator[Callable[[str], PostgresServer]]:
    """Yield a function that starts a password-protected server on 127.0.0.1: ``shipped`` or one of `SYSTEM_SERVERS`."""
    with ExitStack() as stack:

        @cache
        def started(name: str) -> PostgresServer:
            options: dict[str, Any] = {"bindir": None, "settings": {}}
            if name != SHIPPED:
                options = {"bindir": SYSTEM_SERVERS[name], "settings": settings_for(name)}
            return stack.enter_context(_scram_server(run_server, name, **options))

        yield started


@contextmanager
def _scram_server(
    run_server: RunServer, name: str, *, bindir: Path | None, settings: dict[str, str | None]
) -> Iterator[PostgresServer]:
    with closing(socket.socket()) as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    initdb = ("--auth-local=trust", "--auth-host=scram-sha-256")
    listening = {**settings, "listen_addresses": "127.0.0.1"}
    with run_server(f"scram {name}", bindir=bindir, settings=listening, initdb=initdb, port=port) as server:
        with server.connect() as connection:
            connection.execute(sql.SQL("CREATE ROLE gateway SUPERUSER LOGIN PASSWORD {}").format(PASSWORD))
        yield server


@pytest.fixture
def make_server(
    scram_servers: Callable[[str], PostgresServer], tmp_path_factory: pytest.TempPathFactory
) -> Callable[[str], Engine]:
    """Return a factory of engines on a new database; the role is a superuser, as in the embedded engine."""

    def make(which: str) -> Engine:
        scram_server = scram_servers(which)
        name = scram_server.create_database(prefix="contract")
        with scram_server.connect() as connection:
            time_zone = sql.SQL("ALTER DATABASE {} SET timezone = 'Asia/Tokyo'").format(sql.Identifier(name))
            connection.execute(time_zone)
        url = make_conninfo(
            "", host="127.0.0.1", port=scram_server.port, user="gateway", password=PASSWORD, dbname=name
        )
        home = Home(tmp_path_factory.getbasetemp())
        return engine_for(Config(home=home, engine=EngineName.SERVER, database_url=Secret(url)))

    return make


@pytest.fixture
def make_postgres(provisioned_home: Home) -> Callable[[str], Engine]:
    """Return a factory of the embedded engine; tests share its cluster."""
    return lambda _which: engine_for(Config(home=provisioned_home))


OTHER_SERVERS = [pytest.param(f"{EngineName.SERVER} {name}", marks=pytest.mark.slow) for name in SYSTEM_SERVERS]


@pytest.fixture
def make_pglite_engine(pglite_home: Home) -> Callable[[str], Engine]:
    """Return a factory of the engine ``pglite``; tests share its data."""
    return lambda _which: engine_for(Config(home=pglite_home, engine=EngineName.PGLITE))


@pytest.fixture(params=[*EngineName, *OTHER_SERVERS])
def engine(request: pytest.FixtureRequest) -> Iterator[Engine]:
    """Yield an engine of each kind, and one for each installed server version; not started, stopped after the test."""
    kind, _, which = request.param.partition(" ")
    make: Callable[[str], Engine] = request.getfixturevalue(FACTORIES[EngineName(kind)])
    created = make(which or SHIPPED)
    yield created
    created.stop()


def _has_vectors(engine: Engine) -> bool:
    engine.start()
    with closing(psycopg.connect(engine.conninfo())) as connection:
        return connection.execute("SELECT FROM pg_available_extensions WHERE name = 'vector'").fetchone() is not None


@pytest.fixture
def vectors(engine: Engine) -> None:
    """Skip the test if the engine's server has no pgvector."""
    if not _has_vectors(engine):
        pytest.skip("this PostgreSQL has no pgvector")


@pytest.fixture
def no_vectors(engine: Engine) -> None:
    """Skip the test if the engine's server has pgvector."""
    if _has_vectors(engine):
        pytest.skip("this PostgreSQL has pgvector")


@pytest.fixture
def table() -> str:
    """Return the name of a table that no other test uses."""
    return f"contract_{next(NUMBERS)}"
