"""PGlite's data directory: its path, the check of its major version, and its lock.

The lock is an OS lock on a file beside the directory, which the sidecar inherits.
"""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from mosaic_gateway.engines.base import ClusterMissingError, EngineBusyError, ForeignClusterError
from mosaic_gateway.engines.postgres.cluster import LONGEST_VERSION
from mosaic_gateway.engines.postgres.engine_lock import EngineLock, read_record, running_sockets
from mosaic_gateway.engines.postgres.engine_lock import conninfo_of as postgres_conninfo_of
from mosaic_gateway.fs.files import read_regular
from mosaic_gateway.hint import command
from mosaic_gateway.installation.layout import Home
from mosaic_gateway.process.identity import is_running
from mosaic_gateway.process.termination import end_process

__all__ = [
    "MAJOR",
    "acquire_lock",
    "at_rest",
    "check_major",
    "conninfo_of",
    "data_directory",
    "data_of",
    "has_data",
    "lock_file",
    "running_conninfo",
]

MAJOR = 18
#: Major version of PostgreSQL → the releases of PGlite with that format.
OLDER = {16: "0.2", 17: "0.3 or 0.4"}
ROLE = DATABASE = "postgres"  # fixed by PGlite, whatever the client requests
ORPHAN = ((signal.SIGTERM, 2.0), (signal.SIGKILL, 5.0))  # signal, seconds


def data_directory(home: Home) -> Path:
    """Return the path of PGlite's data directory in *home*."""
    return home.data / "pglite"


def has_data(home: Home) -> bool:
    """Return whether anything exists at that path."""
    return data_directory(home).exists()


def data_of(home: Home) -> Path:
    """Return the data directory of *home*. Raises `ClusterMissingError`, and what `check_major` raises."""
    directory = data_directory(home)
    if not directory.exists():
        raise ClusterMissingError(
            f"{home.path} has no database", hint="Run " + command("install", home=home.path) + "."
        )
    check_major(directory)
    return directory


def check_major(directory: Path) -> None:
    """Raise `ForeignClusterError` unless *directory* was created by a PGlite of the supported major version.

    PGlite's own error for such a directory is only 'failed to initialize properly'.
    """
    try:
        major = int(read_regular(directory / "PG_VERSION", LONGEST_VERSION))
        (directory / "global" / "pg_control").stat()
    except (OSError, ValueError) as error:
        raise ForeignClusterError(
            f"{directory} is not a data directory of PGlite", hint="Move it away, or choose another --home."
        ) from error
    if major == MAJOR:
        return
    created_by = f"PGlite {OLDER[major]}" if major in OLDER else "another version of PGlite"
    raise ForeignClusterError(
        f"{directory} was created by {created_by} (PostgreSQL {major}); this version needs PostgreSQL {MAJOR}",
        hint="Nothing was changed. Dump it with the version that created it (npm's pglite-tools pgDump, or pg_dump"
        " over its socket server) and restore the dump into a new home;"
        " see docs/howto/use-pglite.md for the steps.",
        details={"major": major},
    )


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


def acquire_lock(lock: EngineLock, home: Home) -> str | None:
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
    acquire_lock(lock, home)
    try:
        yield
    finally:
        lock.release()
