"""The engine lock of a home: an OS lock, with a record for other processes in the locked file.

The kernel releases the lock when its holder exits. The record identifies the holder and the postmaster by pid and
start time, so that the record of a crashed holder is recognised as stale.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mosaic_gateway.engines.base import EngineBusyError
from mosaic_gateway.engines.postgres.configuration import DATABASE, PORT, ROLE, socket_path
from mosaic_gateway.fs.record_fields import (
    Field,
    RecordError,
    UnreadableRecordError,
    optional,
    path_text,
    record_errors_for,
)
from mosaic_gateway.fs.record_fields import read_record as read_fields
from mosaic_gateway.hint import command
from mosaic_gateway.installation.layout import Home
from mosaic_gateway.process.file_lock import PROBE_TIME, FileLock, flock_holder, holder_of
from mosaic_gateway.process.identity import ProcessIdentity, is_running, own_identity

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
    """The holder of the lock and, once the database is running, its postmaster and the socket's directory."""

    holder: ProcessIdentity
    postmaster: ProcessIdentity | None = None
    sockets: Path | None = None


def _process(value: Any) -> ProcessIdentity:
    identity = ProcessIdentity.from_dict(value)
    if identity is None:
        raise ValueError("it must name a process by its pid and start time")
    return identity


FIELDS = {
    "holder": Field(_process),
    "postmaster": Field(optional(_process), None),
    "sockets": Field(optional(lambda value: Path(path_text(value))), None),
}


def lock_file(home: Home) -> Path:
    """Return the engine lock file of *home*; its holder runs the engine."""
    return home.run / "engine.lock"


def conninfo_of(sockets: Path, *, role: str = ROLE, database: str = DATABASE) -> str:
    """Return the conninfo of the server whose socket is in *sockets*; it contains no secret."""
    from psycopg.conninfo import make_conninfo  # noqa: PLC0415 - locks are acquired before the driver is loaded

    # Overrides environment variables (PGOPTIONS, PGSSLMODE …), which are meant for other servers.
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
    """Return the record in the lock *file* of *home*, None if there is none. Raises UnreadableRecordError."""
    try:
        return EngineRecord(**read_fields(file or lock_file(home), FIELDS))
    except UnreadableRecordError:
        raise
    except (FileNotFoundError, NotADirectoryError, RecordError):
        return None


def running_sockets(record: EngineRecord | None) -> Path | None:
    """Return the socket directory of the database in *record*, None if it is not running."""
    if record is None or record.sockets is None:
        return None
    if not (is_running(record.holder) and is_running(record.postmaster) and socket_path(record.sockets).exists()):
        return None
    return record.sockets


def running_conninfo(home: Home) -> str | None:
    """Return the conninfo of the database that another process runs for *home*, None if there is none."""
    sockets = running_sockets(read_record(home))
    return conninfo_of(sockets) if sockets is not None else None


class EngineLock:
    """The lock of one home; held from `acquire` to `release`."""

    def __init__(self, home: Home, file: Path | None = None) -> None:
        """*file*: the lock file, by default `lock_file` of *home*."""
        self._home = home
        self._lock = FileLock(file or lock_file(home))

    @property
    def descriptor(self) -> int | None:
        """See `FileLock`."""
        return self._lock.descriptor

    def acquire(self) -> None:
        """Acquire the lock, waiting at most `PROBE_TIME`; does nothing if it is already held.

        Raises `EngineBusyError`, which names the holder's pid; RecordError if the lock file's path is not a regular
        file of this user; OSError.
        """
        if self.descriptor is not None:
            return
        with record_errors_for(self._lock.path, hint="Remove it; it is created again."):
            acquired = self._lock.lock(PROBE_TIME)
        if not acquired:
            raise self._busy()
        self.write(EngineRecord(holder=own_identity()))

    def write(self, record: EngineRecord) -> None:
        """Replace the record; the lock must be held."""
        self._lock.write(
            {
                "holder": record.holder.to_dict(),
                "postmaster": record.postmaster.to_dict() if record.postmaster else None,
                "sockets": str(record.sockets) if record.sockets else None,
            }
        )

    def release(self) -> None:
        """Clear the record and release the lock; does nothing if it is not held."""
        if self.descriptor is not None:
            self._lock.write(None)
            self._lock.release()

    def _busy(self) -> EngineBusyError:
        pid, holder = self._holder()
        return EngineBusyError(
            f"The database in {self._home.path} is in use by {holder}",
            hint="Stop that process first (" + command("stop") + "), or connect to the running database.",
            details={"pid": pid} if pid is not None else {},
        )

    def _holder(self) -> tuple[int | None, str]:
        """Return pid and description of the holder: from the record, else from the kernel's lock table."""
        record = read_record(self._home, self._lock.path)
        if record is not None and is_running(record.holder):
            gateway = holder_of(self._home.gateway_lock)
            kind = "the gateway, process" if gateway is not None and gateway.pid == record.holder.pid else "process"
            return record.holder.pid, f"{kind} {record.holder.pid}"
        foreign = flock_holder(self._lock.path)
        return (None, "another process") if foreign is None else (foreign, f"a foreign process: {foreign}")
