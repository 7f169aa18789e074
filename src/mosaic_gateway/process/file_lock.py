"""Locks that the kernel frees: a flock on a file that also says who holds it.

A lock is held or it is not, whatever a dead process left on the disk; so the pid in the file is
believed only while the lock is held, and a reused pid can mislead nobody. The descriptor is not
inherited by children. Files stay when the lock is released: removing one would let two processes
lock two files of the same name.
"""

from __future__ import annotations

import fcntl
import json
import os
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from mosaic_gateway.fs.files import (
    NotARegularFileError,
    TooLargeError,
    open_descriptor,
    open_regular,
    parse_json,
    read_regular,
)
from mosaic_gateway.fs.record_fields import LARGEST_PID, whole

__all__ = ["FileLock", "FileLockHolder", "flock_holder", "holder_of", "last_note"]

#: `holder_of` holds a shared lock for an instant; an acquirer outwaits that, in seconds.
PROBE_TIME = 0.2
PAUSE = 0.01
LONGEST_NOTE = 65536  # bytes


@dataclass(frozen=True, slots=True)
class FileLockHolder:
    """The process that holds a lock: its pid and what it said of itself."""

    pid: int
    facts: dict[str, Any]


class FileLock:
    """An exclusive lock on *path* between processes; a context manager once acquired."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._descriptor: int | None = None

    def acquire(self, *, timeout: float = PROBE_TIME, **facts: Any) -> bool:
        """Take the lock within *timeout* seconds and note *facts* (JSON values) beside our pid.

        Returns False when somebody else keeps it. Raises OSError.
        """
        deadline = time.monotonic() + timeout
        while (descriptor := self._try()) is None:
            if time.monotonic() >= deadline:
                return False
            time.sleep(PAUSE)
        self._descriptor = descriptor
        self.note(**facts)
        return True

    def _try(self) -> int | None:
        descriptor = open_descriptor(self.path, os.O_RDWR | os.O_CREAT)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            # The holder before us may have removed the file: then we hold a name that nobody else can see.
            if os.path.samestat(os.fstat(descriptor), self.path.stat()):
                return descriptor
        except (BlockingIOError, FileNotFoundError):
            pass
        os.close(descriptor)
        return None

    def note(self, **facts: Any) -> None:
        """Replace what the file says of us, the holder."""
        if self._descriptor is None:
            raise ValueError("the lock is not held")
        content = json.dumps({"pid": os.getpid(), **facts}).encode()
        os.ftruncate(self._descriptor, 0)
        os.pwrite(self._descriptor, content, 0)

    def leave(self) -> None:
        """Let go of the lock in a forked child: its parent goes on holding it."""
        self.release()

    def release(self) -> None:
        """Free the lock; nothing happens when it is not held."""
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.release()


def holder_of(path: Path) -> FileLockHolder | None:
    """Return who holds the lock *path* now, None when it is free. Writes nothing.

    The pid is 0 for the instant between taking the lock and noting it.
    """
    try:
        stream = open_regular(path)
    except (FileNotFoundError, NotADirectoryError, NotARegularFileError):  # no lock of ours is anything else
        return None
    with stream:
        with suppress(BlockingIOError):
            fcntl.flock(stream.fileno(), fcntl.LOCK_SH | fcntl.LOCK_NB)
            return None
        return _parse(os.pread(stream.fileno(), LONGEST_NOTE, 0))


def last_note(path: Path) -> FileLockHolder | None:
    """Return what the present or last holder of *path* noted, None where nobody ever did."""
    try:
        return _parse(read_regular(path, LONGEST_NOTE))
    except (FileNotFoundError, NotADirectoryError, NotARegularFileError, TooLargeError):
        return None


def flock_holder(path: Path) -> int | None:
    """Return the pid that took the flock on *path*, whoever it is, None where the kernel does not say (Linux only)."""
    try:
        status = path.stat()
        lines = Path("/proc/locks").read_text(encoding="ascii").splitlines()
    except OSError:
        return None
    # proc_locks(5): ordinal, FLOCK, ADVISORY, WRITE, pid, major:minor:inode (hexadecimal but for the inode), range
    found: dict[int, str] = {}
    for fields in map(str.split, lines):
        if fields[1] == "FLOCK" and int(fields[4]) > 0 and fields[5].rpartition(":")[2] == str(status.st_ino):
            found[int(fields[4])] = fields[5]
    device = f"{os.major(status.st_dev):02x}:{os.minor(status.st_dev):02x}:{status.st_ino}"
    exact = [pid for pid, place in found.items() if place == device]
    if exact or len(found) == 1:
        return (exact or list(found))[0]
    # Overlay file systems and Btrfs tell stat(2) another device than they tell here; then the holder's note decides.
    note = last_note(path)
    return note.pid if note is not None and note.pid in found else None


def _parse(content: bytes) -> FileLockHolder:
    try:
        facts = parse_json(content)
        return FileLockHolder(whole(0, LARGEST_PID)(facts.pop("pid")), facts)
    except (ValueError, KeyError, AttributeError, TypeError):
        return FileLockHolder(0, {})
