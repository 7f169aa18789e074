"""Who has PGlite's data directory open: one OS lock beside it, which the sidecar inherits.

PGlite itself keeps nobody out: two processes on one directory destroy it. The lock lives as long as the last process
that holds its descriptor, and so as long as the sidecar, whatever becomes of us. A sidecar whose supervisor is dead
serves nobody; whoever comes next may end it.
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

__all__ = ["at_rest", "conninfo_of", "lock_file", "running_conninfo", "take"]

ROLE = DATABASE = "postgres"  # whatever is asked for, PGlite gives these
ORPHAN = ((signal.SIGTERM, 2.0), (signal.SIGKILL, 5.0))  # signal, seconds


def lock_file(home: Home) -> Path:
    """Return the file whose lock means: this process has PGlite's data of *home* open."""
    return home.data / "pglite.lock"


def conninfo_of(sockets: Path) -> str:
    """Return the conninfo of the sidecar whose socket lies in *sockets*; it holds no secret."""
    return postgres_conninfo_of(sockets, role=ROLE, database=DATABASE)


def running_conninfo(home: Home) -> str | None:
    """Return the conninfo of the database that another process runs for *home*, None where none does."""
    sockets = running_sockets(read_record(home, lock_file(home)))
    return conninfo_of(sockets) if sockets is not None else None


def take(lock: EngineLock, home: Home) -> str | None:
    """Take *lock*; end a sidecar that a dead process left with it, and say so.

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
        return f"ended a sidecar that a dead process had left (pid {record.postmaster.pid})"
    return None


@contextmanager
def at_rest(home: Home) -> Iterator[None]:
    """Keep everybody from PGlite's data of *home* inside the block. Raises `EngineBusyError`, OSError."""
    if not home.data.is_dir():  # then nobody can have it open
        yield
        return
    lock = EngineLock(home, lock_file(home))
    take(lock, home)
    try:
        yield
    finally:
        lock.release()
