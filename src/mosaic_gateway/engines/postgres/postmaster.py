"""Which processes run on a cluster, and what a dead one left: told by executable and working directory.

Theory of operation. A process belongs to a cluster if its executable is ``postgres`` and its working
directory is the cluster's (a postmaster and all its children keep both; compare Patroni's
``postmaster.py``). A pid in a file proves nothing: after a crash it may belong to any process, even
to one of ours, and PostgreSQL would then refuse to start for ever. Whoever calls here holds the home's
engine lock, so that a process found is one that a dead engine left.

A stale ``postmaster.pid`` is not removed: its first line is given our own pid. PostgreSQL takes a
file that names its parent for stale, but still checks the shared memory that the file names, its last
line of defence against two servers on one cluster.
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
from mosaic_gateway.engines.postgres.sockets import socket_path
from mosaic_gateway.fs.files import read_regular, remove_file, write_file
from mosaic_gateway.fs.record_fields import LARGEST_PID, read_content, whole
from mosaic_gateway.process.identity import ProcessIdentity, identify, is_running

__all__ = ["PidFile", "clear_leftovers", "end_processes", "kill_processes", "processes_of", "read_pid_file"]

FAST, IMMEDIATE, KILL = 10.0, 5.0, 5.0  # seconds that each way to end may take
STATUS_LINE = 7  # src/include/utils/pidfile.h: LOCK_FILE_LINE_PM_STATUS, counted from 0
POLL = 0.01  # seconds
PROC = Path("/proc/self")  # there is no /proc on macOS


@dataclass(frozen=True, slots=True)
class PidFile:
    """What a postmaster.pid says; ``status`` is ``starting``, ``ready``, ``stopping`` or empty."""

    pid: int
    status: str


def read_pid_file(cluster: Path) -> PidFile | None:
    """Return the contents of *cluster*'s postmaster.pid, None where there is none to be read."""
    try:
        lines = read_regular(_pid_file(cluster)).decode(errors="replace").splitlines()
        pid = whole(1, LARGEST_PID)(abs(int(lines[0])))
        return PidFile(pid, lines[STATUS_LINE].strip() if len(lines) > STATUS_LINE else "")
    except (OSError, ValueError, IndexError):
        return None


def processes_of(cluster: Path) -> list[ProcessIdentity]:
    """Return the PostgreSQL processes that run on *cluster*, none where it does not exist."""
    try:
        wanted = cluster.stat()
    except FileNotFoundError:
        return []
    found = (identify(pid) for pid in _pids() if _runs_on(pid, wanted))
    return [identity for identity in found if identity is not None]


def clear_leftovers(cluster: Path, sockets: Path) -> str | None:
    """End what a dead engine left running on *cluster* and free its stale files; say what was done.

    Raises EngineStartError where a process does not end, RecordError where no file of PostgreSQL's lies in the place
    of its postmaster.pid, OSError.
    """
    with suppress(FileNotFoundError):
        read_content(_pid_file(cluster), hint="PostgreSQL does not run. Remove it, then start again.")
    done = []
    living = processes_of(cluster)
    if living:
        pid_file = read_pid_file(cluster)
        postmaster = next((one for one in living if pid_file is not None and one.pid == pid_file.pid), None)
        end_processes(cluster, living, postmaster)
        what = "PostgreSQL" if postmaster else "an orphaned PostgreSQL backend"
        done.append(f"stopped {what} that a dead process had left (pid {(postmaster or living[0]).pid})")
    pid_file = read_pid_file(cluster)
    if pid_file is not None and pid_file.pid != os.getpid() and _exists(pid_file.pid):
        _disown(cluster)
        done.append(f"cleared a stale postmaster.pid whose pid {pid_file.pid} now belongs to another process")
    remove_file(socket_path(sockets))
    remove_file(socket_path(sockets).with_name(f"{socket_path(sockets).name}.lock"))
    return "; ".join(done) or None


def end_processes(cluster: Path, living: Sequence[ProcessIdentity], postmaster: ProcessIdentity | None) -> None:
    """End *living*: the postmaster fast, else all at once, at last by force. Raises EngineStartError."""
    if postmaster is not None:
        _send(postmaster, signal.SIGINT)
        living = _wait(living, FAST)
    for number, limit in ((signal.SIGQUIT, IMMEDIATE), (signal.SIGKILL, KILL)):
        for identity in living:
            _send(identity, number)
        living = _wait(living, limit)
    if living:
        raise EngineStartError(
            f"PostgreSQL still runs on {cluster} and cannot be ended: pid {living[0].pid}",
            hint="Wait until its disk answers again, or restart the machine.",
        )


def kill_processes(directory: Path) -> None:
    """Kill what still runs on *directory*, a cluster that is not worth keeping. Raises EngineStartError."""
    living = processes_of(directory)
    for identity in living:
        _send(identity, signal.SIGKILL)
    if _wait(living, KILL):
        raise EngineStartError(f"PostgreSQL still runs on {directory} and cannot be killed: pid {living[0].pid}")


def _send(identity: ProcessIdentity, number: signal.Signals) -> None:
    if is_running(identity):
        try:
            os.kill(identity.pid, number)
        except ProcessLookupError:
            return


def _wait(living: Sequence[ProcessIdentity], limit: float) -> list[ProcessIdentity]:
    """Return who of *living* still runs when nobody does or *limit* seconds have passed."""
    deadline = time.monotonic() + limit
    remaining = [one for one in living if is_running(one)]
    while remaining and time.monotonic() < deadline:
        time.sleep(POLL)
        remaining = [one for one in remaining if is_running(one)]
    return remaining


def _disown(cluster: Path) -> None:
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
        yield from (int(name) for name in os.listdir("/proc") if name.isdigit())  # noqa: PTH208 - names suffice
        return
    import psutil  # noqa: PLC0415 - only where there is no /proc

    yield from psutil.pids()


def _runs_on(pid: int, cluster: os.stat_result) -> bool:
    """Return whether *pid* is PostgreSQL at work in *cluster*; False for processes closed to us."""
    try:
        if PROC.is_dir():
            executable, directory = os.readlink(f"/proc/{pid}/exe"), f"/proc/{pid}/cwd"  # noqa: PTH115 - as below
        else:
            executable, directory = _executable_and_directory(pid)
        # The kernel marks the program of a runtime that was removed meanwhile.
        name = executable.removesuffix(" (deleted)").rpartition("/")[2]
        return name == "postgres" and os.path.samestat(os.stat(directory), cluster)  # noqa: PTH116 - no object for each pid
    except OSError:
        return False


def _executable_and_directory(pid: int) -> tuple[str, str]:
    import psutil  # noqa: PLC0415 - only where there is no /proc

    try:
        process = psutil.Process(pid)
        return process.exe(), process.cwd()
    except psutil.Error as error:
        raise ProcessLookupError(pid) from error
