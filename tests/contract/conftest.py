"""The engines that must keep the contract, each ready to be started."""

from __future__ import annotations

import itertools
import socket
from collections.abc import Callable, Iterator
from contextlib import closing
from typing import TYPE_CHECKING

import pytest
from psycopg import sql
from psycopg.conninfo import make_conninfo

from mosaic_gateway.config import Config, EngineName, Home, Secret
from mosaic_gateway.engines.base import Engine
from mosaic_gateway.engines.open import engine_for
from mosaic_gateway.process.account import Account

if TYPE_CHECKING:
    from tests.conftest import PostgresServer, RunServer

PASSWORD = "s3cret pässword%@/'"
MAKERS = {
    EngineName.POSTGRES: "make_postgres",
    EngineName.PGLITE: "make_pglite_engine",
    EngineName.SERVER: "make_server",
}
NUMBERS = itertools.count(1)


@pytest.fixture(scope="session")
def scram_server(run_server: RunServer) -> Iterator[PostgresServer]:
    """A server on 127.0.0.1 that asks for a password."""
    with closing(socket.socket()) as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    initdb = ("--auth-local=trust", "--auth-host=scram-sha-256")
    with run_server("scram", settings={"listen_addresses": "127.0.0.1"}, initdb=initdb, port=port) as server:
        with server.connect() as connection:
            connection.execute(sql.SQL("CREATE ROLE gateway SUPERUSER LOGIN PASSWORD {}").format(PASSWORD))
        yield server


@pytest.fixture
def make_server(scram_server: PostgresServer, tmp_path_factory: pytest.TempPathFactory) -> Callable[[], Engine]:
    """Return what makes the engine of a fresh database; its role may do all, as in the embedded engine."""

    def make() -> Engine:
        name = scram_server.create_database(prefix="contract")
        with scram_server.connect() as connection:
            elsewhere = sql.SQL("ALTER DATABASE {} SET timezone = 'Asia/Tokyo'").format(sql.Identifier(name))
            connection.execute(elsewhere)
        url = make_conninfo(
            "", host="127.0.0.1", port=scram_server.port, user="gateway", password=PASSWORD, dbname=name
        )
        home = Home(tmp_path_factory.getbasetemp())
        return engine_for(Config(home=home, engine=EngineName.SERVER, database_url=Secret(url)), account=None)

    return make


@pytest.fixture
def make_postgres(provisioned_home: Home, account: Account | None) -> Callable[[], Engine]:
    """Return what makes the embedded engine; tests share its cluster."""
    return lambda: engine_for(Config(home=provisioned_home), account=account)


@pytest.fixture
def make_pglite_engine(pglite_home: Home, account: Account | None) -> Callable[[], Engine]:
    """Return what makes the engine in WebAssembly; tests share its data."""
    return lambda: engine_for(Config(home=pglite_home, engine=EngineName.PGLITE), account=account)


SLOW = {EngineName.PGLITE}


@pytest.fixture(params=[pytest.param(name, marks=[pytest.mark.slow] if name in SLOW else []) for name in EngineName])
def engine(request: pytest.FixtureRequest) -> Iterator[Engine]:
    """One engine of each kind, not started; stopped when the test is over."""
    make: Callable[[], Engine] = request.getfixturevalue(MAKERS[request.param])
    made = make()
    yield made
    made.stop()


@pytest.fixture
def table() -> str:
    """Return the name of a table that no other test uses."""
    return f"contract_{next(NUMBERS)}"
