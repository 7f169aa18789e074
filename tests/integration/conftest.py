"""HTTP fixtures: a migrated template database, and the application behind a real HTTP server.

``http_template``  The name of a template database with both schemas (session).
``http_database``  The conninfo of a new copy of it.
``http_gateway``   The application on ``http_database``, reached over TCP.
``http_shared``    One such gateway, without users, for tests that do not change its database (session).
``http_run``       A context manager that runs the application on a given conninfo.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from tests.support.http_gateway import Gateway, RunGateway, create_template, run_gateway
from tests.support.postgres_server import PostgresServer


@pytest.fixture(scope="session")
def http_template(postgres_server: PostgresServer) -> str:
    """Return the name of a template database with both schemas."""
    return create_template(postgres_server)


@pytest.fixture
def http_database(postgres_server: PostgresServer, http_template: str) -> str:
    """Return the conninfo of a new copy of `http_template`."""
    return postgres_server.conninfo(postgres_server.create_database(template=http_template, prefix="http"))


@pytest.fixture(scope="session")
def http_run() -> RunGateway:
    """Return `run_gateway`."""
    return run_gateway


@pytest.fixture
def http_gateway(http_database: str) -> Iterator[Gateway]:
    """Run the application on a database of its own."""
    with run_gateway(http_database) as gateway:
        yield gateway


@pytest.fixture(scope="session")
def http_shared(postgres_server: PostgresServer, http_template: str) -> Iterator[Gateway]:
    """Run the application on a database that no test changes."""
    database = postgres_server.create_database(template=http_template, prefix="http")
    with run_gateway(postgres_server.conninfo(database)) as gateway:
        yield gateway
