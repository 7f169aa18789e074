"""Who runs the engine of a home: one OS lock, and in the locked file a record for other processes.

The kernel lets the lock go with its holder, so that a killed holder blocks nobody. The record names the
holder and the postmaster by pid and start time, so that what a dead holder left in it convinces nobody.
"""

from __future__ import annotations

import fcntl
import json
import os
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mosaic_gateway.engines.base import EngineBusyError
from mosaic_gateway.engines.postgres.configuration import DATABASE, PORT, ROLE
from mosaic_gateway.engines.postgres.sockets import socket_path
from mosaic_gateway.fs.files import open_descriptor
from mosaic_gateway.fs.record_fields import ClosedRecordError, Field, RecordError, naming_the_file, optional, path_text
from mosaic_gateway.fs.record_fields import read_record as read_fields
from mosaic_gateway.installation.layout import Home
from mosaic_gateway.process.file_lock import flock_holder, holder_of
from mosaic_gateway.process.identity import ProcessIdentity, is_running, myself

__all__ = [
    "EngineLock",
    "EngineRecord",
    "conninfo_of",
    "lock_file",
    "read_record",
    "running_conninfo",
    "running_sockets",
]


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineRecord:
    """Who holds the lock, and, once the database is up, its postmaster and the socket's directory."""

    holder: ProcessIdentity
    postmaster: ProcessIdentity | None = None
    sockets: Path | None = None


def _process(value: Any) -> ProcessIdentity:
    found = ProcessIdentity.from_dict(value)
    if found is None:
        raise ValueError("it must name a process by its pid and the time of its start")
    return found


FIELDS = {
    "holder": Field(_process),
    "postmaster": Field(optional(_process), None),
    "sockets": Field(optional(lambda value: Path(path_text(value))), None),
}


def lock_file(home: Home) -> Path:
    """Return the file whose lock means: this process runs the engine of *home*."""
    return home.run / "engine.lock"


def conninfo_of(sockets: Path, *, role: str = ROLE, database: str = DATABASE) -> str:
    """Return the conninfo of the server whose socket lies in *sockets*; it holds no secret."""
    from psycopg.conninfo import make_conninfo  # noqa: PLC0415 - a lock is taken before the driver is loaded

    # What the environment may say (PGOPTIONS, PGSSLMODE …) is meant for other servers.
    return make_conninfo(
        "",
        host=str(sockets),
        port=PORT,
        user=role,
        dbname=database,
        options="",
        sslmode="disable",
        gssencmode="disable",
    )


def read_record(home: Home, file: Path | None = None) -> EngineRecord | None:
    """Return what the lock *file* (of *home*) says, None where it says nothing. Raises ClosedRecordError."""
    try:
        return EngineRecord(**read_fields(file or lock_file(home), FIELDS))
    except ClosedRecordError:
        raise
    except (FileNotFoundError, NotADirectoryError, RecordError):
        return None


def running_sockets(record: EngineRecord | None) -> Path | None:
    """Return the socket's directory of the database that *record* names, None where it does not run."""
    if record is None or record.sockets is None:
        return None
    if not (is_running(record.holder) and is_running(record.postmaster) and socket_path(record.sockets).exists()):
        return None
    return record.sockets


def running_conninfo(home: Home) -> str | None:
    """Return the conninfo of the database that another process runs for *home*, None where none does."""
    sockets = running_sockets(read_record(home))
    return conninfo_of(sockets) if sockets is not None else None


class EngineLock:
    """The lock of one home; held from `acquire` to `release`."""

    def __init__(self, home: Home, file: Path | None = None) -> None:
        """*file*: where it lies, if not where `lock_file` says."""
        self._home = home
        self._file = file or lock_file(home)
        self._descriptor: int | None = None

    @property
    def descriptor(self) -> int | None:
        """The locked file's descriptor; a process that inherits it holds the lock as well. None: not held."""
        return self._descriptor

    def acquire(self, *, wait: float = 0.2) -> None:
        """Take the lock, waiting at most *wait* seconds; does nothing while we hold it.

        Raises `EngineBusyError`, which names the holder's pid, RecordError where no file of ours lies in its place,
        and OSError.
        """
        if self._descriptor is not None:
            return
        with naming_the_file(self._file, hint="Remove it: it is made anew."):
            descriptor = open_descriptor(self._file, os.O_RDWR | os.O_CREAT)
        deadline = time.monotonic() + wait
        while True:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() >= deadline:
                    os.close(descriptor)
                    raise self._busy() from None
                time.sleep(0.02)
        self._descriptor = descriptor
        self.write(EngineRecord(holder=myself()))

    def write(self, record: EngineRecord) -> None:
        """Replace the record; only while the lock is held."""
        if self._descriptor is None:
            raise ValueError("the lock is not held")
        value = {
            "holder": record.holder.to_dict(),
            "postmaster": record.postmaster.to_dict() if record.postmaster else None,
            "sockets": str(record.sockets) if record.sockets else None,
        }
        content = json.dumps(value).encode()
        os.pwrite(self._descriptor, content, 0)
        os.ftruncate(self._descriptor, len(content))

    def release(self) -> None:
        """Empty the record and let the lock go; harmless when it is not held."""
        if self._descriptor is None:
            return
        descriptor, self._descriptor = self._descriptor, None
        os.ftruncate(descriptor, 0)
        os.close(descriptor)

    def _busy(self) -> EngineBusyError:
        pid, name = self._who()
        return EngineBusyError(
            f"The database in {self._home.path} is run by {name}",
            hint="Stop that process first (mosaic-gateway stop), or work through it.",
            details={"pid": pid} if pid is not None else {},
        )

    def _who(self) -> tuple[int | None, str]:
        """Return who holds the lock: its holder of record, else whoever the kernel names."""
        record = read_record(self._home, self._file)
        if record is not None and is_running(record.holder):
            gateway = holder_of(self._home.gateway_lock)
            what = "the gateway, process" if gateway is not None and gateway.pid == record.holder.pid else "process"
            return record.holder.pid, f"{what} {record.holder.pid}"
        foreign = flock_holder(self._file)
        return (None, "another process") if foreign is None else (foreign, f"a process that is not ours: {foreign}")
