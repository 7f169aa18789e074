"""Engine ``server``: each fault of an external server has its own error."""

from __future__ import annotations

import itertools
import shutil
import socket
import struct
import threading
import traceback
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import psycopg
import pytest
from psycopg import sql
from psycopg.conninfo import make_conninfo
from tests.support.postgres_server import PostgresServer, RunServer

from mosaic_gateway.config import Secret
from mosaic_gateway.engines.base import (
    ExtensionRightsError,
    ServerLoginError,
    ServerReadOnlyError,
    ServerTooOldError,
    ServerUnreachableError,
    VectorMissingError,
)
from mosaic_gateway.engines.server import DatabaseUrlError, ServerEngine
from mosaic_gateway.errors import ExitCode, MosaicError

PASSWORD = "tops3cret-Ω%"
NUMBERS = itertools.count(1)


def engine(conninfo: str, **changes: str) -> ServerEngine:
    """Return the engine of *conninfo* with *changes*."""
    return ServerEngine(Secret(make_conninfo(conninfo, **changes)))


def everything(error: MosaicError) -> str:
    """Return all text of an error: message, hint, details, chained errors."""
    return "".join(traceback.format_exception(error)) + repr(error.to_dict())


@pytest.fixture
def role(postgres_server: PostgresServer) -> str:
    """Return the name of a role that has no privilege except LOGIN."""
    name = f"plain_{next(NUMBERS)}"
    with postgres_server.connect() as connection:
        connection.execute(sql.SQL("CREATE ROLE {} LOGIN").format(sql.Identifier(name)))
    return name


@pytest.fixture(scope="session")
def locked_server(run_server: RunServer) -> Iterator[PostgresServer]:
    """Run a server on 127.0.0.1 that requires a password."""
    with closing(socket.socket()) as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    initdb = ("--auth-local=trust", "--auth-host=scram-sha-256")
    with run_server("locked", settings={"listen_addresses": "127.0.0.1"}, initdb=initdb, port=port) as server:
        with server.connect() as connection:
            connection.execute(sql.SQL("CREATE ROLE ann LOGIN PASSWORD {}").format(PASSWORD))
        yield server


def test_connection_refused() -> None:
    """A closed port is reported as unreachable, with host and port and without the password."""
    with closing(socket.socket()) as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    server = engine("", host="127.0.0.1", port=str(port), user="ann", password=PASSWORD, dbname="x")
    with pytest.raises(ServerUnreachableError) as caught:
        server.start()
    assert f"127.0.0.1:{port}" in caught.value.message
    assert caught.value.exit_code is ExitCode.PREFLIGHT
    assert PASSWORD not in everything(caught.value)
    assert not server.alive()


@pytest.mark.parametrize(("user", "dbname"), [("ann", "postgres"), ("no_such_role", "postgres")])
def test_wrong_password(locked_server: PostgresServer, user: str, dbname: str) -> None:
    """A rejected login is distinguished from an unreachable server."""
    wrong = "wr0ng-secret"
    server = engine("", host="127.0.0.1", port=str(locked_server.port), user=user, password=wrong, dbname=dbname)
    with pytest.raises(ServerLoginError, match="password authentication failed") as caught:
        server.start()
    assert wrong not in everything(caught.value)


def test_right_password(locked_server: PostgresServer) -> None:
    """A password with percent signs and non-ASCII letters works as part of a conninfo."""
    server = engine(
        "", host="127.0.0.1", port=str(locked_server.port), user="ann", password=PASSWORD, dbname="postgres"
    )
    server.start()
    assert server.alive()


def test_no_such_database(postgres_server: PostgresServer) -> None:
    """A missing database is named."""
    with pytest.raises(ServerLoginError, match='"not_there" does not exist'):
        engine(postgres_server.conninfo("not_there")).start()


@pytest.mark.parametrize(
    "url",
    [
        "postgresql://ann:tops3cret%zz@localhost/x",
        "postgresql://ann:tops3cret@local host:54x32/x?nonsense=1",
        "host=localhost tops3cret",
        "password='tops3cret",
        "tops3cret",
    ],
)
def test_malformed_url(url: str) -> None:
    """A malformed URL is a usage error that does not repeat the URL."""
    server = ServerEngine(Secret(url))
    for call in (server.start, server.verify, server.conninfo):
        with pytest.raises(DatabaseUrlError) as caught:
            call()
        assert "tops3cret" not in everything(caught.value)
        assert caught.value.exit_code is ExitCode.USAGE


def test_no_privilege_to_create_the_extension(postgres_server: PostgresServer, database: str, role: str) -> None:
    """A role without the privilege is refused with its name and the server's reason; nothing is changed."""
    with pytest.raises(ExtensionRightsError, match=f"'{role}' may not create pgvector") as caught:
        engine(database, user=role).verify()
    assert "permission denied" in caught.value.message
    with psycopg.connect(database) as connection:
        assert connection.execute("SELECT 1 FROM pg_extension WHERE extname = 'vector'").fetchone() is None


def test_extension_created_by_an_administrator(database: str, role: str) -> None:
    """Once an administrator has created pgvector, a role without the privilege passes."""
    with psycopg.connect(database, autocommit=True) as connection:
        connection.execute("CREATE EXTENSION vector")
    assert engine(database, user=role).verify().vector_installed


def test_read_only_database(postgres_server: PostgresServer) -> None:
    """A read-only database is refused before anything is written."""
    name = postgres_server.create_database()
    with postgres_server.connect() as connection:
        setting = "ALTER DATABASE {} SET default_transaction_read_only = on"
        connection.execute(sql.SQL(setting).format(sql.Identifier(name)))
    with pytest.raises(ServerReadOnlyError, match="does not accept writes"):
        engine(postgres_server.conninfo(name)).verify()


def test_server_without_pgvector(run_server: RunServer, postgres_bin: Path, tmp_path_factory: pytest.TempPathFactory,
                                 scratch: Path) -> None:  # fmt: skip
    """A PostgreSQL without pgvector is refused."""
    bare = bare_copy(postgres_bin, scratch)
    with run_server("bare", bindir=bare) as server, pytest.raises(VectorMissingError, match="does not offer pgvector"):
        engine(server.conninfo()).verify()


def bare_copy(bindir: Path, target: Path) -> Path:
    """Copy the PostgreSQL of *bindir* without pgvector; return the copy's programs."""
    package = bindir.parent.parent
    unwanted = shutil.ignore_patterns("include", "doc", "pgxs", "*.a", "vector*")
    shutil.copytree(package / "pginstall", target / package.name / "pginstall", ignore=unwanted)
    shutil.copytree(package.with_name(f"{package.name}.libs"), target / f"{package.name}.libs")
    for directory in (target / package.name, target):
        directory.chmod(0o755)
    return target / package.name / "pginstall" / "bin"


def test_server_too_old() -> None:
    """A server of version 14 is refused with its version."""
    with fake_server("14.9") as port, pytest.raises(ServerTooOldError, match=r"PostgreSQL 14\.9; at least 15"):
        engine("", host="127.0.0.1", port=str(port), user="x", dbname="x", sslmode="disable").verify()


@contextmanager
def fake_server(version: str) -> Iterator[int]:
    """Run a server that accepts every login, reports *version* and answers each query without rows; yield its port.

    Messages as in PostgreSQL's documentation, "Frontend/Backend Protocol", "Message Formats".
    """

    def message(kind: bytes, body: bytes) -> bytes:
        return kind + struct.pack("!i", len(body) + 4) + body

    ready = message(b"Z", b"I")
    greeting = message(b"R", struct.pack("!i", 0))
    for name, value in (("server_version", version), ("client_encoding", "UTF8"), ("TimeZone", "UTC")):
        greeting += message(b"S", name.encode() + b"\0" + value.encode() + b"\0")

    def serve(listener: socket.socket) -> None:
        connection, _ = listener.accept()
        with connection:
            connection.recv(4096)
            connection.sendall(greeting + message(b"K", struct.pack("!ii", 1, 2)) + ready)
            while (received := connection.recv(4096)) and received[:1] == b"Q":
                connection.sendall(message(b"C", b"SELECT 0\0") + ready)

    with closing(socket.create_server(("127.0.0.1", 0))) as listener:
        listener.settimeout(10)
        thread = threading.Thread(target=serve, args=(listener,))
        thread.start()
        yield listener.getsockname()[1]
        thread.join(10)
        assert not thread.is_alive()
