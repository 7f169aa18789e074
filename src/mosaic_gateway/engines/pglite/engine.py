"""Engine ``pglite``: PostgreSQL in WebAssembly, in a Node.js child process (the sidecar) private to one home.

Theory of operation. Only the holder of the lock beside the data directory opens it. The sidecar inherits the lock,
so that it stays locked while any process writes. The sidecar ends with its parent: on `stop`, or on end of file on
its standard input when the parent is killed. One that does not notice because a query occupies it is ended by the
next start. A statement over its time limit that cannot be interrupted ends the sidecar; it is then started again.
"""

from __future__ import annotations

import logging
from pathlib import Path

from mosaic_gateway.engines.base import EngineError, EngineReport, EngineStartError
from mosaic_gateway.engines.pglite import data_files, sidecar_process
from mosaic_gateway.engines.pglite.data_files import data_of
from mosaic_gateway.engines.pglite.npm_packages import Shipped
from mosaic_gateway.engines.pglite.runtime import PgliteRuntime, prepare
from mosaic_gateway.engines.pglite.sidecar_process import Sidecar
from mosaic_gateway.engines.postgres.configuration import socket_directory, socket_path, socket_place
from mosaic_gateway.engines.postgres.disk_reserve import create_disk_reserve, drop_disk_reserve
from mosaic_gateway.engines.postgres.engine_lock import EngineLock, EngineRecord
from mosaic_gateway.fs.files import make_directory, remove_file
from mosaic_gateway.installation.engine_name import EngineName
from mosaic_gateway.installation.layout import Home
from mosaic_gateway.process.disk_full import is_full_disk
from mosaic_gateway.process.identity import identify, own_identity

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
        published: bool = True,
    ) -> None:
        """*published*: other processes of this home may connect to the same sidecar and then share its one session."""
        self._home = home
        self._runtime = runtime
        self._shipped = shipped
        self._published = published
        self._lock = EngineLock(home, data_files.lock_file(home))
        self._sidecar: Sidecar | None = None
        self._starting = False  # the sidecar was started and has not reported yet
        self._recovered: list[str] = []

    @property
    def name(self) -> EngineName:
        """Always ``pglite``."""
        return EngineName.PGLITE

    def begin(self) -> None:
        """Start the sidecar without waiting for it: Node.js needs half a second, which the caller can use otherwise.

        `start` completes the start and raises later errors. Raises `EngineBusyError`, `ClusterMissingError`,
        `ForeignClusterError`, `UnfitAccountError`, `PackagesMissingError`, `PackagesAlteredError`,
        `RuntimeMissingError`, `EngineStartError`, OSError.
        """
        if self.alive():
            return
        if self._sidecar is not None:
            self._sidecar.stop()  # it runs without its socket
        sidecar_process.check_account()
        self._log_previous_failure()
        data = data_of(self._home)
        prepare(self._home, self._runtime, shipped=self._shipped)
        make_directory(self._home.run)
        make_directory(self._home.logs)
        orphan = data_files.acquire_lock(self._lock, self._home)
        try:
            self._recovered = [orphan] if orphan is not None else []
            self._spawn(data)
        except BaseException:
            self.stop()
            raise

    def start(self) -> None:
        """Start the sidecar, or complete the start after `begin`; see ``Engine.start``. Raises what `begin` raises."""
        if self.alive() and not self._starting:
            return
        if not self._starting:  # a sidecar started by `begin` may have exited since: reported below
            self.begin()
        try:
            self._await_with_repair()
            # Imported while the sidecar starts: loading the driver takes half as long as the start of Node.js.
            from mosaic_gateway.engines.pglite.self_test import update_vector  # noqa: PLC0415 - see above

            updated = update_vector(self.conninfo(), self._failed)
            self._recovered += [updated] if updated is not None else []
            self._write_record(self._sockets() if self._published else None)
        except BaseException:
            self.stop()
            raise
        create_disk_reserve(self._home)

    def verify(self) -> EngineReport:
        """Check versions and, once for each version, test pgvector; see ``Engine.verify``.

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
        return data_files.conninfo_of(self._sockets())

    def alive(self) -> bool:
        """Return whether the sidecar of this object is running and, once it is open, its socket exists."""
        sidecar = self._sidecar
        if sidecar is None or not sidecar.running():
            return False
        return self._starting or socket_path(socket_place(self._home)).exists()

    def stop(self) -> None:
        """Stop the sidecar within 15 s and release the lock; see ``Engine.stop``."""
        sidecar, self._sidecar, self._starting = self._sidecar, None, False
        try:
            if sidecar is not None:
                sidecar.stop()
        finally:
            self._lock.release()

    def _sockets(self) -> Path:
        return socket_directory(self._home)

    def _log_previous_failure(self) -> None:
        """Log why the previous sidecar ended, if it reported the reason."""
        event = self._sidecar.event("deadline", "fatal") if self._sidecar is not None else None
        if event is None:
            return
        if event["event"] == "deadline":
            LOG.warning("PGlite was ended: a statement exceeded its time limit of %s s", event.get("seconds"))
        else:
            LOG.error("PGlite crashed: %s", event.get("message"))

    def _await_with_repair(self) -> None:
        """Wait until the database is open; on a full disk, release the disk reserve and retry once."""
        try:
            self._await()
        except EngineStartError as error:
            if not is_full_disk(error) or not drop_disk_reserve(self._home):
                raise
            self._recovered.append("released the disk reserve: the disk was full")
            self._spawn(data_of(self._home))
            self._await()

    def _spawn(self, data: Path) -> None:
        sockets = self._sockets()
        remove_file(socket_path(sockets))
        descriptor = self._lock.descriptor
        if descriptor is None:
            raise ValueError("the lock is not held")
        self._sidecar = Sidecar(
            sidecar_process.sidecar_command(self._runtime, data, socket_path(sockets), lock=descriptor),
            log=self._home.pglite_log,
            inherited=(descriptor,),
        )
        self._sidecar.start()
        self._starting = True
        self._write_record(None)  # immediately: if this process crashes now, the next start must end the sidecar

    def _await(self) -> None:
        if self._sidecar is None:
            raise ValueError("no sidecar was started")
        self._starting = False
        sidecar_process.open_sidecar(self._sidecar, self._home.pglite_log)
        if "was not properly shut down" in self._sidecar.tail():
            self._recovered.append("PGlite recovered from a crash")

    def _write_record(self, sockets: Path | None) -> None:
        sidecar = identify(self._sidecar.pid) if self._sidecar is not None else None
        self._lock.write(EngineRecord(holder=own_identity(), postmaster=sidecar, sockets=sockets))

    def _failed(self, message: str) -> EngineError:
        return sidecar_process.failure(message, self._sidecar, self._home.pglite_log)
