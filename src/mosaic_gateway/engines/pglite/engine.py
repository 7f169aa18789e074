"""Engine ``pglite``: PostgreSQL in WebAssembly, in a Node.js process that is our child and private to one home.

Theory of operation. Whoever holds the lock beside the data directory has it open; nobody else touches it. The
sidecar inherits that lock, so that it is held for as long as anybody writes. It ends with us: by our `stop`, or because
its standard input closes when we are killed; one that could not notice, because a query kept it busy, is ended by
the next start. A query over its limit ends the sidecar (PGlite cannot be interrupted): it is then started anew.
"""

from __future__ import annotations

import logging
from pathlib import Path

from mosaic_gateway.engines.base import EngineError, EngineReport, EngineStartError
from mosaic_gateway.engines.pglite.data import data_of
from mosaic_gateway.engines.pglite.engine_lock import conninfo_of, lock_file, take
from mosaic_gateway.engines.pglite.pinned_versions import Shipped
from mosaic_gateway.engines.pglite.runtime import PgliteRuntime, prepare
from mosaic_gateway.engines.pglite.sidecar_process import Sidecar
from mosaic_gateway.engines.pglite.sidecar_startup import FULL, check_account, failure, open_sidecar, sidecar_command
from mosaic_gateway.engines.postgres.disk_reserve import create_disk_reserve, drop_disk_reserve
from mosaic_gateway.engines.postgres.engine_lock import EngineLock, EngineRecord
from mosaic_gateway.engines.postgres.sockets import socket_directory, socket_path
from mosaic_gateway.fs.files import make_directory, remove_file
from mosaic_gateway.installation.engine_name import EngineName
from mosaic_gateway.installation.layout import Home
from mosaic_gateway.process.identity import identify, myself

__all__ = ["Pglite"]

LOG = logging.getLogger(__name__)


class Pglite:
    """The PGlite of one home; implements ``Engine``. Not for use by several threads at once."""

    def __init__(
        self,
        home: Home,
        runtime: PgliteRuntime,
        *,
        shipped: Shipped,
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
        self._runtime_directory = runtime_directory
        self._published = published
        self._lock = EngineLock(home, lock_file(home))
        self._sidecar: Sidecar | None = None
        self._begun = False  # the sidecar runs, and has not been heard of yet
        self._recovered: list[str] = []

    @property
    def name(self) -> EngineName:
        """Always ``pglite``."""
        return EngineName.PGLITE

    def begin(self) -> None:
        """Start the sidecar without waiting for it: Node.js takes half a second, in which a caller may do other things.

        `start` completes it, and raises what becomes known later. Raises `EngineBusyError`, `ClusterMissingError`,
        `ForeignClusterError`, `UnfitAccountError`, `PackagesMissingError`, `PackagesAlteredError`,
        `RuntimeMissingError`, `EngineStartError`, OSError.
        """
        if self.alive():
            return
        check_account()
        self._log_previous_failure()
        data = data_of(self._home)
        prepare(self._home, self._runtime, shipped=self._shipped)
        make_directory(self._home.run)
        make_directory(self._home.logs)
        orphan = take(self._lock, self._home)
        try:
            self._recovered = [orphan] if orphan is not None else []
            self._spawn(data)
        except BaseException:
            self.stop()
            raise

    def start(self) -> None:
        """Start the sidecar, or complete what was begun; see ``Engine.start``. Raises what `begin` raises."""
        if self.alive() and not self._begun:
            return
        if not self._begun:  # one that was begun may have ended since: that is told below
            self.begin()
        try:
            self._await_with_repair()
            # Imported when the sidecar runs: the driver takes as long as half of Node.js's own start.
            from mosaic_gateway.engines.pglite.self_test import update_vector  # noqa: PLC0415 - see above

            updated = update_vector(self.conninfo(), self._failed)
            self._recovered += [updated] if updated is not None else []
            self._write_record(self._sockets() if self._published else None)
        except BaseException:
            self.stop()
            raise
        create_disk_reserve(self._home)

    def verify(self) -> EngineReport:
        """Check version, pgvector and, once for each version, what it can do; see ``Engine.verify``.

        Raises `VectorMissingError`, EngineError.
        """
        from mosaic_gateway.engines.pglite.self_test import examine, self_test_record  # noqa: PLC0415 - as above

        record = self_test_record(self._home, self._shipped, self._runtime)
        facts = examine(self.conninfo(), self._runtime, record, self._failed)
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
        sidecar, self._sidecar, self._begun = self._sidecar, None, False
        try:
            if sidecar is not None:
                sidecar.stop()
        finally:
            self._lock.release()

    def _sockets(self) -> Path:
        return socket_directory(self._home, self._runtime_directory)

    def _log_previous_failure(self) -> None:
        """Log why the sidecar before this one ended, when it said so."""
        event = self._sidecar.event("deadline", "fatal") if self._sidecar is not None else None
        if event is None:
            return
        if event["event"] == "deadline":
            LOG.warning("PGlite was ended: a query took longer than its limit of %s s", event.get("seconds"))
        else:
            LOG.error("PGlite died: %s", event.get("message"))

    def _await_with_repair(self) -> None:
        """Wait until the database is open; a disk without any room for it gets the ballast's, once."""
        try:
            self._await()
        except EngineStartError as error:
            if not any(text in error.message for text in FULL) or not drop_disk_reserve(self._home):
                raise
            self._recovered.append("gave up the ballast file: the disk was full")
            self._spawn(data_of(self._home))
            self._await()

    def _spawn(self, data: Path) -> None:
        sockets = self._sockets()
        remove_file(socket_path(sockets))
        descriptor = self._lock.descriptor
        if descriptor is None:
            raise ValueError("the lock is not held")
        self._sidecar = Sidecar(
            sidecar_command(self._runtime, data, socket_path(sockets), lock=descriptor),
            log=self._home.pglite_log,
            inherited=(descriptor,),
        )
        self._sidecar.start()
        self._begun = True
        self._write_record(None)  # at once: if we die now, the next start must know whom to end

    def _await(self) -> None:
        if self._sidecar is None:
            raise ValueError("nothing was begun")
        self._begun = False
        open_sidecar(self._sidecar, self._home.pglite_log)
        if "was not properly shut down" in self._sidecar.tail():
            self._recovered.append("PGlite recovered from a crash")

    def _write_record(self, sockets: Path | None) -> None:
        sidecar = identify(self._sidecar.pid) if self._sidecar is not None else None
        self._lock.write(EngineRecord(holder=myself(), postmaster=sidecar, sockets=sockets))

    def _failed(self, message: str) -> EngineError:
        return failure(message, self._sidecar, self._home.pglite_log)
