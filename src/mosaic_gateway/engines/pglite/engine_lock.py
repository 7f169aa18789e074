"""The lock of PGlite's data directory: an OS lock on a file beside it, which the sidecar inherits.

PGlite has no lock of its own: two processes on one directory destroy it. The lock is held until the last process
with its descriptor exits, so it outlives a killed supervisor if the sidecar does. A sidecar without a supervisor
serves no client; the next start may end it.
"""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from mosaic_gateway.engines.base import EngineBusyError
from mosaic_gateway.engines.postgres.engine_lock import EngineLock, read_record, running_sockets
from mosaic_gateway.engines.postgres.engine_lock import conninfo_of as postgres_conninfo_of
from mosaic_gateway.installation.layout import Home
from mosaic_gateway.process.identity import is_running
from mosaic_gateway.process.termination import end_process

__all__ = ["acquire", "at_rest", "conninfo_of", "lock_file", "running_conninfo"]

ROLE = DATABASE = "postgres"  # fixed by PGlite, whatever the client requests
ORPHAN = ((signal.SIGTERM, 2.0), (signal.SIGKILL, 5.0))  # signal, seconds


def lock_file(home: Home) -> Path:
    """Return the lock file of PGlite's data in *home*; its holder has the data open."""
    return home.data / "pglite.lock"


def conninfo_of(sockets: Path) -> str:
    """Return the conninfo of the sidecar whose socket is in *sockets*; it contains no secret."""
    return postgres_conninfo_of(sockets, role=ROLE, database=DATABASE)


def running_conninfo(home: Home) -> str | None:
    """Return the conninfo of the database that another process runs for *home*, None if there is none."""
    sockets = running_sockets(read_record(home, lock_file(home)))
    return conninfo_of(sockets) if sockets is not None else None


def acquire(lock: EngineLock, home: Home) -> str | None:
    """Acquire *lock*; end an orphaned sidecar that holds it and return a message about that, else None.

    Raises `EngineBusyError`, OSError.
    """
    try:
        lock.acquire()
    except EngineBusyError:
        record = read_record(home, lock_file(home))
        if record is None or record.postmaster is None or is_running(record.holder):
            raise
        if not (is_running(record.postmaster) and end_process(record.postmaster, ORPHAN)):
            raise
        lock.acquire()
        return f"ended a sidecar left by a crashed process (pid {record.postmaster.pid})"
    return None


@contextmanager
def at_rest(home: Home) -> Iterator[None]:
    """Hold the lock of PGlite's data of *home* during the block. Raises `EngineBusyError`, OSError."""
    if not home.data.is_dir():  # then no process can have it open
        yield
        return
    lock = EngineLock(home, lock_file(home))
    acquire(lock, home)
    try:
        yield
    finally:
        lock.release()
