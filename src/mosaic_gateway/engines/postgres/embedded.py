"""Engine ``postgres``: PostgreSQL as a child process, private to one home.

Theory of operation. Only the holder of the home's engine lock runs the cluster. So once the lock is acquired, any
process that still runs on the cluster was left by a crashed engine: it is ended, stale files are cleaned up, and the
server is started. The server ends with its parent: on `stop`, or by the kernel's parent-death signal. If the disk is
too full for recovery, the disk reserve is released and the start repeated once.
"""

from __future__ import annotations

import time
from contextlib import closing, suppress
from pathlib import Path

import psycopg
from psycopg import sql
from psycopg.conninfo import make_conninfo
from psycopg.rows import TupleRow

from mosaic_gateway.engines import base, requirements
from mosaic_gateway.engines.postgres import configuration, disk_reserve, engine_lock, postmaster, self_test
from mosaic_gateway.engines.postgres.cluster import check_major, cluster_of
from mosaic_gateway.engines.postgres.configuration import socket_directory, socket_path, socket_place
from mosaic_gateway.engines.postgres.cpu import this_cpu
from mosaic_gateway.engines.postgres.postmaster import ServerProcess
from mosaic_gateway.engines.postgres.runtime import Runtime
from mosaic_gateway.engines.session import connect
from mosaic_gateway.fs.files import make_directory
from mosaic_gateway.hint import command
from mosaic_gateway.installation.engine_name import EngineName
from mosaic_gateway.installation.layout import Home
from mosaic_gateway.process import identity
from mosaic_gateway.process.disk_full import is_full_disk

__all__ = ["EmbeddedPostgres"]

START_LIMIT = 60.0  # seconds until the server reports that it is starting …
RECOVERY_LIMIT = 300.0  # … and until it is ready
POLL = 0.004  # seconds
CRASH_NOTICE = 2.0  # seconds in which the server logs why a backend crashed
TAIL = 20  # lines of the log in an error
APPLICATION = "mosaic-gateway engine"


class EmbeddedPostgres:
    """The PostgreSQL of one home; implements ``Engine``. Not for use by several threads at once."""

    def __init__(self, home: Home, runtime: Runtime, *, log: Path) -> None:
        """*log*: the server's log file."""
        self._home = home
        self._runtime = runtime
        self._log = log
        self._lock = engine_lock.EngineLock(home)
        self._process: ServerProcess | None = None
        self._recovered: list[str] = []

    @property
    def name(self) -> EngineName:
        """Always ``postgres``."""
        return EngineName.POSTGRES

    def start(self) -> None:
        """Start the server; see ``Engine.start``.

        Raises `EngineBusyError`, `ClusterMissingError`, `ForeignClusterError`, `UnfitAccountError`,
        `EngineStartError`, OSError.
        """
        if self.alive():
            return
        if self._process is not None:
            self._process.stop()  # it runs without its socket
        configuration.check_account()
        cluster = self._cluster()
        make_directory(self._home.run)
        make_directory(self._log.parent)
        self._lock.acquire()
        try:
            self._recovered = []
            sockets = socket_directory(self._home)
            configuration.write_configuration(cluster, self._runtime.major)
            process = self._launch_with_repair(cluster, sockets)
            self._ensure_database(sockets)
            self._lock.write(
                engine_lock.EngineRecord(
                    holder=identity.own_identity(), postmaster=identity.identify(process.pid), sockets=sockets
                )
            )
        except BaseException:
            self.stop()
            raise
        disk_reserve.create_disk_reserve(self._home)

    def verify(self) -> base.EngineReport:
        """Check the server and, once for each runtime and CPU, pgvector's machine code; see ``Engine.verify``.

        Raises `VectorMissingError`, `CpuUnsupportedError`, EngineError.
        """
        try:
            with closing(connect(self.conninfo(), application_name=APPLICATION)) as connection:
                facts = requirements.check_server(connection, try_extension=False)
                self._self_test(connection, facts)
        except psycopg.Error as error:
            raise self._failed(f"The check of PostgreSQL failed: {error}") from error
        return base.EngineReport(
            engine=self.name,
            server_version=facts.server_version,
            vector_version=facts.vector_version,
            vector_installed=facts.vector_installed,
            recovered="; ".join(self._recovered) or None,
        )

    def conninfo(self) -> str:
        """Return the conninfo of the gateway's database; it contains no secret."""
        return engine_lock.conninfo_of(self._sockets())

    def alive(self) -> bool:
        """Return whether the postmaster of this object is running, and its socket exists."""
        process = self._process
        return process is not None and process.running() and socket_path(socket_place(self._home)).exists()

    def stop(self) -> None:
        """Stop the server within 20 s and release the lock; see ``Engine.stop``."""
        process, self._process = self._process, None
        try:
            if process is not None:
                process.stop()
                self._end_orphans()
        finally:
            self._lock.release()

    def _cluster(self) -> Path:
        cluster = cluster_of(self._home)
        if cluster is None:
            raise base.ClusterMissingError(
                f"{self._home.path} has no database cluster",
                hint="Run " + command("install", home=self._home.path) + ".",
            )
        check_major(cluster, self._runtime)
        return cluster

    def _sockets(self) -> Path:
        return socket_directory(self._home)

    def _end_orphans(self) -> None:
        """End backends left by a killed postmaster: they would prevent the next start."""
        cluster = cluster_of(self._home)
        running = postmaster.processes_of(cluster) if cluster is not None else []
        if cluster is not None and running:
            postmaster.end_processes(cluster, running, None)

    def _launch_with_repair(self, cluster: Path, sockets: Path) -> ServerProcess:
        """Launch the server; if the log shows a cause that can be removed, remove it and launch once more."""
        self._note(postmaster.clear_leftovers(cluster, sockets))
        try:
            return self._launch(cluster, sockets)
        except base.EngineStartError as error:
            if is_full_disk(error) and disk_reserve.drop_disk_reserve(self._home):
                self._note("released the disk reserve: the disk was full")
            elif "pre-existing shared memory block" in error.message:
                self._note(postmaster.clear_leftovers(cluster, sockets))
            else:
                raise
        return self._launch(cluster, sockets)

    def _launch(self, cluster: Path, sockets: Path) -> ServerProcess:
        argv: list[str | Path] = [
            self._runtime.bindir / "postgres",
            "-D",
            cluster,
            *configuration.command_line_settings(sockets),
        ]
        process = ServerProcess(argv, cwd=cluster, log=self._log)
        self._process = process
        process.start()
        self._await_ready(process, cluster)
        if "was not properly shut down" in process.tail():
            self._note("PostgreSQL recovered from a crash")
        return process

    def _await_ready(self, process: ServerProcess, cluster: Path) -> None:
        """Wait until postmaster.pid has the status ``ready``. Raises EngineStartError."""
        started = time.monotonic()
        while True:
            pid_file = postmaster.read_pid_file(cluster)
            status = pid_file.status if pid_file is not None and pid_file.pid == process.pid else ""
            if status == "ready":
                return
            if process.wait(POLL):
                raise self._failed(f"PostgreSQL did not start ({process.ending()})")
            waited = time.monotonic() - started
            if waited > (RECOVERY_LIMIT if status == "starting" else START_LIMIT):
                process.stop()
                raise self._failed(f"PostgreSQL was not ready within {waited:.0f} s")

    def _ensure_database(self, sockets: Path) -> None:
        """Ensure that the gateway's database exists; initdb's is renamed, because CREATE DATABASE takes 50 ms or more.

        PostgreSQL's own tools fall back to template1 if there is no database ``postgres``.
        """
        try:
            maintenance = make_conninfo(engine_lock.conninfo_of(sockets), dbname="template1")
            with closing(connect(maintenance, application_name=APPLICATION)) as connection:
                names = {row[0] for row in connection.execute("SELECT datname FROM pg_database")}
                if configuration.DATABASE not in names:
                    statement = "ALTER DATABASE postgres RENAME TO {}" if "postgres" in names else "CREATE DATABASE {}"
                    connection.execute(sql.SQL(statement).format(sql.Identifier(configuration.DATABASE)))
        except psycopg.Error as error:
            raise self._failed(f"PostgreSQL started, but does not accept a session: {error}") from error

    def _self_test(self, connection: psycopg.Connection[TupleRow], facts: requirements.ServerFacts) -> None:
        cpu = this_cpu()
        record = self_test.SelfTestRecord(
            self._home.run / "self-test.json",
            str(self._runtime.bindir), facts.server_version, facts.vector_version, cpu.fingerprint,
        )  # fmt: skip
        if record.passed():
            return
        try:
            self_test.run_self_test(connection)
        except psycopg.OperationalError as error:
            if self._died_of_illegal_instruction():
                raise base.CpuUnsupportedError(
                    f"pgvector {facts.vector_version} in {self._runtime.bindir} does not run on this CPU: {cpu.model}",
                    hint="Use one of: --postgres-bin DIR with this system's PostgreSQL and pgvector;"
                    " --database-url with a server on another machine; a newer (virtual) CPU model for this machine.",
                    details={"cpu": cpu.model},
                ) from error
            raise
        with suppress(OSError):  # the test is repeated at the next start
            record.write()

    def _died_of_illegal_instruction(self) -> bool:
        """Return whether the server's log reports a backend terminated by SIGILL (signal 4 on all platforms)."""
        deadline = time.monotonic() + CRASH_NOTICE
        while self._process is not None and time.monotonic() < deadline:
            if "terminated by signal 4" in self._process.tail():
                self._await_restart()
                return True
            time.sleep(POLL)
        return False

    def _await_restart(self) -> None:
        """Wait until the server accepts connections after a crash restart: a fast shutdown meanwhile hangs (18.6)."""
        deadline = time.monotonic() + CRASH_NOTICE
        while time.monotonic() < deadline:
            with suppress(psycopg.Error):
                connect(self.conninfo(), application_name=APPLICATION).close()
                return
            time.sleep(POLL)

    def _failed(self, message: str) -> base.EngineError:
        lines = self._process.tail().splitlines()[-TAIL:] if self._process is not None else []
        text = "\n".join([message, *lines])
        return base.EngineStartError(text, hint=f"The complete log: {self._log}", details={"log": str(self._log)})

    def _note(self, message: str | None) -> None:
        if message:
            self._recovered.append(message)
