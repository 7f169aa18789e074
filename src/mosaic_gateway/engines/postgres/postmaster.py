"""Processes of a cluster, and cleanup after a crash.

Theory of operation. A process belongs to a cluster if its executable is ``postgres`` and its working directory is
the cluster (true for a postmaster and all its children; compare Patroni's ``postmaster.py``). A pid in a file is not
sufficient: after a crash it may belong to any other process, and PostgreSQL would then always refuse to start.
Callers hold the home's engine lock, so any process found was left by a crashed engine.

A stale ``postmaster.pid`` is not removed: this process's own pid is written to its first line. PostgreSQL treats a
file that names its parent process as stale, but still checks the shared memory segment named in the file, its last
protection against two servers on one cluster.
"""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from mosaic_gateway.engines.base import EngineStartError
from mosaic_gateway.engines.engine_process import EngineProcess
from mosaic_gateway.engines.postgres.configuration import socket_path
from mosaic_gateway.fs.files import read_regular, remove_file, write_file
from mosaic_gateway.fs.record_fields import LARGEST_PID, integer_between, read_content
from mosaic_gateway.process.identity import ProcessIdentity, identify, is_running

__all__ = [
    "PidFile",
    "ServerProcess",
    "clear_leftovers",
    "end_processes",
    "kill_processes",
    "processes_of",
    "read_pid_file",
]

FAST, IMMEDIATE, KILL = 10.0, 5.0, 5.0  # seconds to wait after each signal
STATUS_LINE = 7  # src/include/utils/pidfile.h: LOCK_FILE_LINE_PM_STATUS, counted from 0
POLL = 0.01  # seconds
PROC = Path("/proc/self")  # there is no /proc on macOS
#: Fast shutdown, immediate shutdown, kill; each with its time limit in seconds.
STOPS = ((signal.SIGINT, 10.0), (signal.SIGQUIT, 5.0), (signal.SIGKILL, 5.0))


@dataclass(frozen=True, slots=True)
class PidFile:
    """The content of a postmaster.pid; ``status`` is ``starting``, ``ready``, ``stopping`` or empty."""

    pid: int
    status: str


def read_pid_file(cluster: Path) -> PidFile | None:
    """Return the content of *cluster*'s postmaster.pid, None if it cannot be read."""
    try:
        lines = read_regular(_pid_file(cluster)).decode(errors="replace").splitlines()
        pid = integer_between(1, LARGEST_PID)(abs(int(lines[0])))
        return PidFile(pid, lines[STATUS_LINE].strip() if len(lines) > STATUS_LINE else "")
    except (OSError, ValueError, IndexError):
        return None


def processes_of(cluster: Path) -> list[ProcessIdentity]:
    """Return the PostgreSQL processes that run on *cluster*, none if it does not exist."""
    try:
        directory = cluster.stat()
    except FileNotFoundError:
        return []
    identities = (identify(pid) for pid in _pids() if _runs_on(pid, directory))
    return [identity for identity in identities if identity is not None]


def clear_leftovers(cluster: Path, sockets: Path) -> str | None:
    """End processes of a crashed engine on *cluster* and clean up its stale files; return what was done, or None.

    Raises EngineStartError if a process does not exit, RecordError if the path of postmaster.pid is not a regular
    file, OSError.
    """
    with suppress(FileNotFoundError):
        read_content(_pid_file(cluster), hint="PostgreSQL is not running. Remove the file, then start again.")
    done = []
    running = processes_of(cluster)
    if running:
        pid_file = read_pid_file(cluster)
        postmaster = next((one for one in running if pid_file is not None and one.pid == pid_file.pid), None)
        end_processes(cluster, running, postmaster)
        kind = "a PostgreSQL server" if postmaster else "an orphaned PostgreSQL backend"
        done.append(f"stopped {kind} left by a crashed process (pid {(postmaster or running[0]).pid})")
    pid_file = read_pid_file(cluster)
    if pid_file is not None and pid_file.pid != os.getpid() and _exists(pid_file.pid):
        _mark_stale(cluster)
        done.append(f"cleared a stale postmaster.pid whose pid {pid_file.pid} now belongs to another process")
    remove_file(socket_path(sockets))
    remove_file(socket_path(sockets).with_name(f"{socket_path(sockets).name}.lock"))
    return "; ".join(done) or None


def end_processes(cluster: Path, living: Sequence[ProcessIdentity], postmaster: ProcessIdentity | None) -> None:
    """End *living*: by a fast shutdown of *postmaster*, then SIGQUIT, then SIGKILL to all. Raises EngineStartError."""
    if postmaster is not None:
        _send(postmaster, signal.SIGINT)
        living = _wait(living, FAST)
    for number, limit in ((signal.SIGQUIT, IMMEDIATE), (signal.SIGKILL, KILL)):
        for identity in living:
            _send(identity, number)
        living = _wait(living, limit)
    if living:
        raise EngineStartError(
            f"PostgreSQL is still running on {cluster} and cannot be ended: pid {living[0].pid}",
            hint="Wait until its disk responds again, or restart the machine.",
        )


def kill_processes(directory: Path) -> None:
    """Kill all processes on *directory*, a cluster about to be deleted. Raises EngineStartError."""
    living = processes_of(directory)
    for identity in living:
        _send(identity, signal.SIGKILL)
    if _wait(living, KILL):
        raise EngineStartError(f"PostgreSQL is still running on {directory} and cannot be killed: pid {living[0].pid}")


def _send(identity: ProcessIdentity, number: signal.Signals) -> None:
    if is_running(identity):
        try:
            os.kill(identity.pid, number)
        except ProcessLookupError:
            return


def _wait(living: Sequence[ProcessIdentity], limit: float) -> list[ProcessIdentity]:
    """Wait at most *limit* seconds for *living* to exit; return the processes that are still running."""
    deadline = time.monotonic() + limit
    remaining = [one for one in living if is_running(one)]
    while remaining and time.monotonic() < deadline:
        time.sleep(POLL)
        remaining = [one for one in remaining if is_running(one)]
    return remaining


def _mark_stale(cluster: Path) -> None:
    path = _pid_file(cluster)
    _, newline, rest = read_regular(path).partition(b"\n")
    write_file(path, str(os.getpid()).encode() + newline + rest)


def _pid_file(cluster: Path) -> Path:
    return cluster / "postmaster.pid"


def _exists(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def _pids() -> Iterator[int]:
    if PROC.is_dir():
        yield from (int(name) for name in os.listdir("/proc") if name.isdigit())  # noqa: PTH208 - only names are needed
        return
    import psutil  # noqa: PLC0415 - only on systems without /proc

    yield from psutil.pids()


def _runs_on(pid: int, cluster: os.stat_result) -> bool:
    """Return whether *pid* is a PostgreSQL process on *cluster*; False for processes that cannot be inspected."""
    try:
        if PROC.is_dir():
            executable, directory = os.readlink(f"/proc/{pid}/exe"), f"/proc/{pid}/cwd"  # noqa: PTH115 - as below
        else:
            executable, directory = _executable_and_directory(pid)
        # The kernel appends this if the executable was deleted meanwhile.
        name = executable.removesuffix(" (deleted)").rpartition("/")[2]
        return name == "postgres" and os.path.samestat(os.stat(directory), cluster)  # noqa: PTH116 - no object for each pid
    except OSError:
        return False


def _executable_and_directory(pid: int) -> tuple[str, str]:
    import psutil  # noqa: PLC0415 - only on systems without /proc

    try:
        process = psutil.Process(pid)
        return process.exe(), process.cwd()
    except psutil.Error as error:
        raise ProcessLookupError(pid) from error


class ServerProcess(EngineProcess):
    """A postmaster, started as a child process."""

    def __init__(self, argv: Sequence[str | Path], *, cwd: Path, log: Path) -> None:
        super().__init__(argv, name="postgres", log=log, orphan_signal=signal.SIGINT, cwd=cwd)

    def stop(self) -> None:
        """Shut the server down within 20 s: fast, then immediate, then SIGKILL; does nothing once it has exited."""
        self.end(STOPS)
