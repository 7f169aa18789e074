"""Engine ``pglite``: PostgreSQL in WebAssembly, in a Node.js process that is our child and private to one home.

Theory of operation. Whoever holds the lock beside the data directory has it open; nobody else touches it. The
sidecar inherits that lock, so that it is held for as long as anybody writes. It ends with us: by our `stop`, or because
its standard input closes when we are killed; one that could not notice, because a query kept it busy, is ended by
the next start. A query over its limit ends the sidecar (PGlite cannot be interrupted): it is then started anew.
"""

from __future__ import annotations

import logging
import os
from contextlib import closing, suppress
from pathlib import Path
from typing import Any

import psycopg
from psycopg.rows import TupleRow

from mosaic_gateway.config import EngineName, Home
from mosaic_gateway.engines.base import (
    EngineError,
    EngineReport,
    EngineStartError,
    UnfitAccountError,
    VectorMissingError,
)
from mosaic_gateway.engines.pglite.data import data_of
from mosaic_gateway.engines.pglite.errors import PackagesMissingError
from mosaic_gateway.engines.pglite.launch import Sidecar
from mosaic_gateway.engines.pglite.lock import conninfo_of, lock_file, take
from mosaic_gateway.engines.pglite.runtime import PgliteRuntime, prepare
from mosaic_gateway.engines.pglite.shipped import PGVECTOR, Shipped
from mosaic_gateway.engines.postgres.ballast import drop_ballast, keep_ballast
from mosaic_gateway.engines.postgres.lock import EngineLock, EngineRecord
from mosaic_gateway.engines.postgres.selftest import SelfTestRecord, run_self_test
from mosaic_gateway.engines.postgres.sockets import socket_directory, socket_path
from mosaic_gateway.engines.requirements import ServerFacts, check_server
from mosaic_gateway.engines.session import connect
from mosaic_gateway.files import make_directory, remove_file
from mosaic_gateway.process.account import Account, assume
from mosaic_gateway.process.identity import identify, myself

__all__ = ["Pglite", "check_account", "open_sidecar"]

LOG = logging.getLogger(__name__)
START_LIMIT = 120.0  # seconds; a recovery included
TAIL = 20  # lines of PGlite's log in an error
APPLICATION = "mosaic-gateway engine"
FULL = ("No space left on device", "ENOSPC")


class Pglite:
    """The PGlite of one home; implements ``Engine``. Not for use by several threads at once."""

    def __init__(
        self,
        home: Home,
        runtime: PgliteRuntime,
        *,
        shipped: Shipped,
        account: Account | None,
        runtime_directory: Path,
        published: bool = True,
    ) -> None:
        """*runtime_directory*: where a socket goes whose path would be too long.

        *published*: other processes of this home may work through the same sidecar, whose one session they
        share then.
        """
        self._home = home
        self._runtime = runtime
        self._shipped = shipped
        self._account = account
        self._runtime_directory = runtime_directory
        self._published = published
        self._lock = EngineLock(home, lock_file(home))
        self._sidecar: Sidecar | None = None
        self._recovered: list[str] = []

    @property
    def name(self) -> EngineName:
        """Always ``pglite``."""
        return EngineName.PGLITE

    def start(self) -> None:
        """Start the sidecar; see ``Engine.start``.

        Raises `EngineBusyError`, `ClusterMissingError`, `ForeignClusterError`, `UnfitAccountError`,
        `PackagesMissingError`, `PackagesAlteredError`, `EngineStartError`, OSError.
        """
        if self.alive():
            return
        check_account(self._account)
        self._tell_of_the_last()
        data = data_of(self._home)
        prepare(self._home, self._runtime, shipped=self._shipped, account=self._account)
        with assume(self._account):
            make_directory(self._home.run)
            make_directory(self._home.logs)
        orphan = take(self._lock, self._home, self._account)
        try:
            self._recovered = [orphan] if orphan is not None else []
            sockets = self._sockets()
            self._open_with_mending(data, sockets)
            self._update_vector(sockets)
            self._write_record(sockets if self._published else None)
        except BaseException:
            self.stop()
            raise
        keep_ballast(self._home, self._account)

    def verify(self) -> EngineReport:
        """Check version, pgvector and, once for each version, what it can do; see ``Engine.verify``.

        Raises `VectorMissingError`, EngineError.
        """
        try:
            with closing(connect(self.conninfo(), application_name=APPLICATION)) as connection:
                facts = self._facts(connection)
                self._self_test(connection)
        except psycopg.Error as error:
            raise self._failed(f"PGlite failed while it was examined: {error}") from error
        return EngineReport(
            engine=self.name,
            server_version=facts.server_version,
            vector_version=facts.vector_version,
            vector_installed=facts.vector_installed,
            recovered="; ".join(self._recovered) or None,
        )

    def conninfo(self) -> str:
        """Return the conninfo of the gateway's database; it holds no secret."""
        return conninfo_of(self._sockets())

    def alive(self) -> bool:
        """Return whether the sidecar that we started still runs."""
        return self._sidecar is not None and self._sidecar.running()

    def stop(self) -> None:
        """Stop the sidecar within 15 s and release the lock; see ``Engine.stop``."""
        sidecar, self._sidecar = self._sidecar, None
        try:
            if sidecar is not None:
                sidecar.stop()
        finally:
            self._lock.release()

    def _sockets(self) -> Path:
        return socket_directory(self._home, self._account, self._runtime_directory)

    def _tell_of_the_last(self) -> None:
        """Log why the sidecar before this one ended, when it said so."""
        event = self._sidecar.event("deadline", "fatal") if self._sidecar is not None else None
        if event is None:
            return
        if event["event"] == "deadline":
            LOG.warning("PGlite was ended: a query took longer than its limit of %s s", event.get("seconds"))
        else:
            LOG.error("PGlite died: %s", event.get("message"))

    def _open_with_mending(self, data: Path, sockets: Path) -> None:
        """Open; a disk without any room for it gets the ballast's, once."""
        try:
            self._open(data, sockets)
        except EngineStartError as error:
            if not any(text in error.message for text in FULL) or not drop_ballast(self._home, self._account):
                raise
            self._recovered.append("gave up the ballast file: the disk was full")
            self._open(data, sockets)

    def _open(self, data: Path, sockets: Path) -> None:
        with assume(self._account):
            remove_file(socket_path(sockets))
        descriptor = self._lock.descriptor
        if descriptor is None:
            raise ValueError("the lock is not held")
        self._sidecar = Sidecar(
            sidecar_command(self._runtime, data, socket_path(sockets), lock=descriptor),
            account=self._account,
            log=self._home.pglite_log,
            inherited=(descriptor,),
        )
        self._sidecar.start()
        self._write_record(None)  # at once: if we die now, the next start must know whom to end
        open_sidecar(self._sidecar, self._home.pglite_log)
        if "was not properly shut down" in self._sidecar.tail():
            self._recovered.append("PGlite recovered from a crash")

    def _write_record(self, sockets: Path | None) -> None:
        sidecar = identify(self._sidecar.pid) if self._sidecar is not None else None
        self._lock.write(EngineRecord(holder=myself(), postmaster=sidecar, sockets=sockets))

    def _update_vector(self, sockets: Path) -> None:
        """Bring pgvector to the version that is loaded: another 0.5 may have made the directory."""
        try:
            with closing(connect(conninfo_of(sockets), application_name=APPLICATION)) as connection:
                row = connection.execute(
                    "SELECT extversion, default_version"
                    " FROM pg_extension JOIN pg_available_extensions ON name = extname"
                    " WHERE extname = 'vector' AND extversion <> default_version"
                ).fetchone()
                if row is not None:
                    connection.execute("ALTER EXTENSION vector UPDATE")
                    self._recovered.append(f"pgvector {row[0]} was updated to {row[1]}")
        except psycopg.Error as error:
            raise self._failed(f"PGlite started, but lets nobody work: {error}") from error

    def _facts(self, connection: psycopg.Connection[TupleRow]) -> ServerFacts:
        try:
            return check_server(connection, try_extension=False)
        except VectorMissingError as error:
            raise VectorMissingError(
                f"PGlite runs without pgvector: the package {PGVECTOR} was not loaded from {self._runtime.modules}",
                hint="Run mosaic-gateway install again; with --pglite-dir, install that package there as well.",
                details={"package": PGVECTOR},
            ) from error

    def _self_test(self, connection: psycopg.Connection[TupleRow]) -> None:
        record = self_test_record(self._home, self._shipped, self._runtime)
        if record.passed():
            return
        run_self_test(connection)
        with suppress(OSError):  # it will be tried again at the next start
            record.write(self._account)

    def _failed(self, message: str) -> EngineError:
        return failure(message, self._sidecar, self._home.pglite_log)


def check_account(account: Account | None) -> None:
    """Raise `UnfitAccountError` where PGlite would run as root."""
    if (os.geteuid() if account is None else account.uid) == 0:
        raise UnfitAccountError(
            "PGlite is not run as root", hint="Name a service account with --run-as USER; it must exist."
        )


def self_test_record(home: Home, shipped: Shipped, runtime: PgliteRuntime) -> SelfTestRecord:
    """Return what remembers in *home* that pgvector was tested with these packages on this Node.js."""
    return SelfTestRecord(home.run / "self-test.json", "pglite", shipped.packages_digest, runtime.node.version)


def sidecar_command(
    runtime: PgliteRuntime, data: Path, socket: Path, *, lock: int | None = None, brief: bool = False
) -> list[str | Path]:
    """Return the words that start a sidecar; *brief* for one that ends soon."""
    words: list[str | Path] = [*runtime.node.command(brief=brief), runtime.script, "--modules", runtime.modules]
    words += ["--data", data, "--socket", socket]
    return words if lock is None else [*words, "--lock-fd", str(lock)]


def open_sidecar(sidecar: Sidecar, log: Path, *, limit: float = START_LIMIT) -> dict[str, Any]:
    """Return what the started *sidecar* says when it is ready.

    Raises `PackagesMissingError`, `EngineStartError` with the end of PGlite's log; then it does not run.
    """
    event = sidecar.await_event("ready", "failed", limit=limit)
    if event is not None and event["event"] == "ready":
        return event
    late = event is None and sidecar.running()
    sidecar.stop()
    if event is not None and event.get("code") == "MODULES_MISSING":
        raise PackagesMissingError(
            f"PGlite's packages cannot be loaded: {event.get('message')}", hint="Run mosaic-gateway install again."
        )
    if event is not None:
        why = f"{event.get('message')} ({event.get('code')})"
    else:
        why = f"it was not ready within {limit:.0f} s" if late else sidecar.ending()
    raise failure(f"PGlite did not start: {why}", sidecar, log)


def failure(message: str, sidecar: Sidecar | None, log: Path) -> EngineStartError:
    """Return an error that ends with the tail of PGlite's log."""
    lines = sidecar.tail().splitlines()[-TAIL:] if sidecar is not None else []
    return EngineStartError("\n".join([message, *lines]), hint=f"The whole log: {log}", details={"log": str(log)})
