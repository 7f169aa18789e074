"""The embedded engine after crashes and with concurrent starts."""

from __future__ import annotations

import os
import select
import shutil
import signal
import subprocess
import threading
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import psutil
import psycopg
import pytest

from mosaic_gateway.config import Config
from mosaic_gateway.engines.base import (
    EngineBusyError,
)
from mosaic_gateway.engines.factory import engine_for
from mosaic_gateway.engines.postgres.configuration import socket_path
from mosaic_gateway.engines.postgres.embedded import EmbeddedPostgres
from mosaic_gateway.engines.postgres.engine_lock import read_record, running_conninfo
from mosaic_gateway.engines.postgres.postmaster import processes_of, read_pid_file
from mosaic_gateway.engines.postgres.runtime import find_runtime
from mosaic_gateway.engines.session import connect
from mosaic_gateway.installation.layout import Home

LIMIT = 20.0  # seconds


def until(condition: Callable[[], bool], what: str, limit: float = LIMIT) -> None:
    """Wait until *condition* is true, at most *limit* seconds."""
    deadline = time.monotonic() + limit
    while not condition():
        assert time.monotonic() < deadline, f"{what}: not within {limit} s"
        time.sleep(0.005)


def fork(work: Callable[[], None]) -> int:
    """Run *work* in a child process; return its pid."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # Python 3.12: fork beside threads
        child = os.fork()
    if child == 0:
        with suppress(BaseException):
            work()
        os._exit(1)
    return child


@dataclass
class Owner:
    """A child process that runs the engine of a home, like a gateway, and then waits to be killed."""

    pid: int

    @classmethod
    def of(cls, home: Home) -> Owner:
        """Start the process; return when its database is running."""
        reader, writer = os.pipe()

        def work() -> None:
            engine_for(Config(home=home)).start()
            os.write(writer, b"up")
            signal.pause()

        child = fork(work)
        os.close(writer)
        with os.fdopen(reader, "rb") as stream:
            assert stream.read(2) == b"up", "the child's engine did not start"
        return cls(child)

    def kill(self) -> None:
        """Kill it with SIGKILL."""
        os.kill(self.pid, signal.SIGKILL)
        os.waitpid(self.pid, 0)


@pytest.fixture
def sleeper() -> Iterator[subprocess.Popen[bytes]]:
    """A process that is not PostgreSQL."""
    with subprocess.Popen(["sleep", "60"], cwd="/") as process:
        yield process
        process.kill()


def session(engine: EmbeddedPostgres) -> psycopg.Connection:
    """Open a session of *engine*."""
    return connect(engine.conninfo(), application_name="engine test")


def postmaster_of(home: Home) -> int:
    """Return the postmaster's pid from the home's lock record."""
    record = read_record(home)
    assert record is not None
    assert record.postmaster is not None
    return record.postmaster.pid


def test_processes_of_a_cluster(cluster: Path, scratch: Path) -> None:
    """A foreign program in the cluster's directory and a PostgreSQL in another directory are not listed."""
    program = scratch / "postgres"
    shutil.copy(str(shutil.which("sleep")), program)
    with ExitStack() as stack:

        def start(executable: str | Path, directory: Path) -> int:
            process = subprocess.Popen([executable, "60"], cwd=directory)
            stack.callback(process.wait)
            stack.callback(process.kill)
            until(lambda: Path(f"/proc/{process.pid}/exe").resolve().name == Path(executable).name, "it is loaded")
            return process.pid

        start("sleep", cluster)
        start(program, scratch)
        expected = start(program, cluster)
        assert [one.pid for one in processes_of(cluster)] == [expected]


def test_postmaster_killed_with_a_busy_backend(
    make_embedded: Callable[..., EmbeddedPostgres], cluster: Path, provisioned_home: Home
) -> None:
    """A busy orphaned backend, which would prevent the next start, is ended; committed data is retained."""
    engine = make_embedded()
    engine.start()
    with closing(session(engine)) as connection:
        connection.execute("CREATE TABLE IF NOT EXISTS orphan_test (n int)")
        connection.execute("INSERT INTO orphan_test VALUES (41)")
        busy = connection.info.backend_pid
        # A function that never checks its latch does not notice the exit of the postmaster.
        work = threading.Thread(target=busy_work, args=(connection,))
        work.start()
        until(lambda: psutil.Process(busy).cpu_times().user > 0.1, "the backend is busy")
        os.kill(postmaster_of(provisioned_home), signal.SIGKILL)
        until(lambda: not engine.alive(), "the engine notices")
        assert busy in {one.pid for one in processes_of(cluster)}
        engine.start()
        work.join(LIMIT)
    assert "orphaned PostgreSQL backend" in (engine.verify().recovered or "")
    with closing(session(engine)) as connection:
        assert connection.execute("SELECT max(n) FROM orphan_test").fetchone() == (41,)


def busy_work(connection: psycopg.Connection) -> None:
    """Run a statement that keeps a backend busy until it is ended."""
    with suppress(psycopg.Error):
        connection.execute("SELECT count(*) FROM generate_series(1, 100000) a, generate_series(1, 1000000) b")


def test_server_exits_with_its_owner(
    make_embedded: Callable[..., EmbeddedPostgres], cluster: Path, provisioned_home: Home
) -> None:
    """Within two seconds after its owner was killed the server exits; committed data is retained."""
    owner = Owner.of(provisioned_home)
    conninfo = running_conninfo(provisioned_home)
    assert conninfo is not None
    with closing(connect(conninfo, application_name="engine test")) as connection:
        connection.execute("CREATE TABLE IF NOT EXISTS orphaned (n int)")
        connection.execute("INSERT INTO orphaned VALUES (7)")
    owner.kill()
    until(lambda: not processes_of(cluster), "the server ends", 2)
    assert running_conninfo(provisioned_home) is None
    engine = make_embedded()
    engine.start()
    with closing(session(engine)) as connection:
        assert connection.execute("SELECT max(n) FROM orphaned").fetchone() == (7,)


def test_start_immediately_after_the_owner_was_killed(
    make_embedded: Callable[..., EmbeddedPostgres], provisioned_home: Home
) -> None:
    """A start succeeds while the killed owner's server is still shutting down."""
    for _ in range(3):
        Owner.of(provisioned_home).kill()
        engine = make_embedded()
        engine.start()
        assert engine.alive()
        engine.stop()


def test_server_without_an_owner(
    make_embedded: Callable[..., EmbeddedPostgres], cluster: Path, provisioned_home: Home
) -> None:
    """A postmaster on the cluster without an owner is stopped, and a new one started."""
    binary = find_runtime(provisioned_home, None).bindir / "postgres"
    argv: list[str | Path] = [binary, "-D", cluster, "-k", provisioned_home.run, "-c", "listen_addresses="]
    with subprocess.Popen(argv, stderr=subprocess.DEVNULL, cwd="/") as stray:
        until(lambda: (pid_file := read_pid_file(cluster)) is not None and pid_file.status == "ready", "it is ready")
        engine = make_embedded()
        engine.start()
        assert stray.wait(LIMIT) == 0
        assert f"pid {stray.pid}" in (engine.verify().recovered or "")


@pytest.mark.parametrize("crashed", [True, False])
def test_stale_pid_files_with_the_pid_reused(
    make_embedded: Callable[..., EmbeddedPostgres], cluster: Path, provisioned_home: Home,
    sleeper: subprocess.Popen[bytes], *, crashed: bool,
) -> None:  # fmt: skip
    """Pid files whose pid now belongs to another process do not prevent the start; that process is not ended."""
    engine = make_embedded()
    engine.start()
    content = (cluster / "postmaster.pid").read_text()
    if crashed:
        os.kill(postmaster_of(provisioned_home), signal.SIGKILL)
        until(lambda: not engine.alive(), "the engine notices")
    engine.stop()
    stale = "\n".join([str(sleeper.pid), *content.splitlines()[1:]]) + "\n"
    (cluster / "postmaster.pid").write_text(stale)
    socket_path(provisioned_home.run).with_name(".s.PGSQL.5432.lock").write_text(stale)
    engine.start()
    assert f"pid {sleeper.pid} now belongs to another process" in (engine.verify().recovered or "")
    assert sleeper.poll() is None


def test_concurrent_starts(provisioned_home: Home, cluster: Path) -> None:
    """Of several processes that start the engine at the same time exactly one succeeds; the others name its pid."""
    gate, rivals = os.pipe(), [os.pipe() for _ in range(4)]
    children = [fork(partial(rival, provisioned_home, gate, writer)) for _, writer in rivals]
    os.close(gate[0])
    os.close(gate[1])  # opens the gate
    outcomes = {}
    for child, (reader, writer) in zip(children, rivals, strict=True):
        os.close(writer)
        ready = select.select([reader], [], [], LIMIT)[0]
        outcomes[child] = os.read(reader, 100).strip().decode() if ready else "silent"
        os.close(reader)
    try:
        winners = [child for child, outcome in outcomes.items() if outcome == "up"]
        assert len(winners) == 1, outcomes
        losers = [outcome for child, outcome in outcomes.items() if child != winners[0]]
        assert losers == [str({"pid": winners[0]})] * 3
        pid_file = read_pid_file(cluster)
        assert pid_file is not None
        assert postmaster_of(provisioned_home) == pid_file.pid
    finally:
        for child in children:
            os.kill(child, signal.SIGKILL)
            os.waitpid(child, 0)


def rival(home: Home, gate: tuple[int, int], writer: int) -> None:
    """Wait for the gate, start the engine, report the outcome, and wait to be killed."""
    os.close(gate[1])
    os.read(gate[0], 1)
    try:
        engine_for(Config(home=home)).start()
        outcome = "up"
    except EngineBusyError as error:
        outcome = str(error.details)
    os.write(writer, f"{outcome}\n".encode())
    signal.pause()


def test_engine_of_another_process(make_embedded: Callable[..., EmbeddedPostgres], provisioned_home: Home) -> None:
    """While another process runs the engine, a start fails with its pid, and its conninfo is available."""
    owner = Owner.of(provisioned_home)
    try:
        with pytest.raises(EngineBusyError) as caught:
            make_embedded().start()
        assert caught.value.details == {"pid": owner.pid}
        conninfo = running_conninfo(provisioned_home)
        assert conninfo is not None
        connect(conninfo, application_name="engine test").close()
    finally:
        owner.kill()
