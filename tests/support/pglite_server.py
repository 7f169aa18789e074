"""PGlite's sidecar on data of its own, without the engine around it."""

from __future__ import annotations

import os
import shutil
import signal
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import psycopg
from psycopg import sql

from mosaic_gateway.engines.pglite.data_files import conninfo_of, data_directory
from mosaic_gateway.engines.pglite.npm_packages import shipped
from mosaic_gateway.engines.pglite.runtime import PgliteRuntime, find_runtime, prepare
from mosaic_gateway.engines.pglite.sidecar_process import Sidecar, open_sidecar, sidecar_command
from mosaic_gateway.engines.postgres.configuration import socket_path
from mosaic_gateway.installation.layout import Home

EXIT_LIMIT = 30.0  # seconds


@dataclass(slots=True)
class PgliteServer:
    """A PGlite sidecar with its own data, which a test may kill and restart."""

    runtime: PgliteRuntime
    place: Path
    sidecar: Sidecar | None = None

    @property
    def conninfo(self) -> str:
        """Return the conninfo of its one database."""
        return conninfo_of(self.place)

    def start(self) -> None:
        """Start the sidecar; stop the previous one first if it is still running."""
        self.stop()
        command = sidecar_command(self.runtime, self.place / "data", socket_path(self.place))
        self.sidecar = Sidecar(command, log=self.place / "log")
        self.sidecar.start()
        open_sidecar(self.sidecar, self.place / "log")

    def kill(self) -> None:
        """Send SIGKILL to the sidecar and wait until it has exited."""
        assert self.sidecar is not None
        os.kill(self.sidecar.pid, signal.SIGKILL)
        assert self.sidecar.wait(EXIT_LIMIT)

    def stop(self) -> None:
        """Stop the sidecar."""
        if self.sidecar is not None:
            self.sidecar.stop()

    def empty(self) -> None:
        """Drop all schemas of its database and create an empty ``public``."""
        with psycopg.connect(self.conninfo, autocommit=True) as connection:
            connection.execute("DROP EXTENSION IF EXISTS vector CASCADE")
            rows = connection.execute(
                "SELECT nspname FROM pg_namespace WHERE nspname !~ '^pg_' AND nspname <> 'information_schema'"
            ).fetchall()
            for (name,) in rows:
                connection.execute(sql.SQL("DROP SCHEMA {} CASCADE").format(sql.Identifier(name)))
            connection.execute("CREATE SCHEMA public")


@contextmanager
def pglite_server(home: Home, parent: Path) -> Iterator[PgliteServer]:
    """Run a sidecar in the block, on a copy of the data of *home*, which must be stopped."""
    runtime = find_runtime(home, None, shipped=shipped(), search_path=None)
    prepare(home, runtime, shipped=shipped())
    place = Path(tempfile.mkdtemp(prefix="pglite-", dir=parent))
    shutil.copytree(data_directory(home), place / "data")
    server = PgliteServer(runtime, place)
    try:
        server.start()
        yield server
    finally:
        server.stop()
