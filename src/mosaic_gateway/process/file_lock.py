"""Lock files: flock(2) on a file that also records its holder.

The kernel releases the lock when its holder exits. The pid in the file is valid only while the lock
is held, so a stale file or a reused pid has no effect. Children do not inherit the descriptor. Lock
files are not removed on release: otherwise two processes could lock two files of the same name.
"""

from __future__ import annotations

import fcntl
import json
import os
import time
from collections.abc import Mapping
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
from mosaic_gateway.fs.record_fields import LARGEST_PID, integer_between

__all__ = ["PROBE_TIME", "FileLock", "FileLockHolder", "flock_holder", "holder_of", "last_note"]

#: `holder_of` holds a shared lock for an instant; `FileLock.acquire` retries for this many seconds.
PROBE_TIME = 0.2
PAUSE = 0.01
LONGEST_NOTE = 65536  # bytes


@dataclass(frozen=True, slots=True)
class FileLockHolder:
    """The process that holds a lock: its pid and the facts that it recorded."""

    pid: int
    facts: dict[str, Any]


class FileLock:
    """An exclusive lock on *path* between processes; a context manager once acquired."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._descriptor: int | None = None

    @property
    def descriptor(self) -> int | None:
        """The descriptor of the lock file, None if not held; a process that inherits it also holds the lock."""
        return self._descriptor

    def acquire(self, *, timeout: float = PROBE_TIME, **facts: Any) -> bool:
        """Acquire the lock within *timeout* seconds and record *facts* (JSON values) with the pid.

        Returns False if another process holds it. Raises OSError.
        """
        if not self.lock(timeout):
            return False
        self.note(**facts)
        return True

    def lock(self, timeout: float) -> bool:
        """Acquire the lock and record nothing; otherwise as `acquire`."""
        deadline = time.monotonic() + timeout
        while (descriptor := self._try()) is None:
            if time.monotonic() >= deadline:
                return False
            time.sleep(PAUSE)
        self._descriptor = descriptor
        return True

    def _try(self) -> int | None:
        descriptor = open_descriptor(self.path, os.O_RDWR | os.O_CREAT)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            # The file may have been removed since it was opened; then no other process can see this lock.
            if os.path.samestat(os.fstat(descriptor), self.path.stat()):
                return descriptor
        except (BlockingIOError, FileNotFoundError):
            pass
        os.close(descriptor)
        return None

    def note(self, **facts: Any) -> None:
        """Replace the recorded facts of the holder, this process."""
        self.write({"pid": os.getpid(), **facts})

    def write(self, record: Mapping[str, Any] | None) -> None:
        """Replace the content of the file by *record* (JSON values), None: by nothing; the lock must be held."""
        if self._descriptor is None:
            raise ValueError("the lock is not held")
        content = json.dumps(record).encode() if record is not None else b""
        os.pwrite(self._descriptor, content, 0)
        os.ftruncate(self._descriptor, len(content))

    def leave(self) -> None:
        """Close the descriptor in a forked child; the parent still holds the lock."""
        self.release()

    def release(self) -> None:
        """Release the lock; does nothing if it is not held."""
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
    """Return the process that holds the lock *path*, None if it is free. Writes nothing.

    The pid is 0 for the instant between acquiring the lock and recording the holder.
    """
    try:
        stream = open_regular(path)
    except (FileNotFoundError, NotADirectoryError, NotARegularFileError):  # a lock is always a regular file
        return None
    with stream:
        with suppress(BlockingIOError):
            fcntl.flock(stream.fileno(), fcntl.LOCK_SH | fcntl.LOCK_NB)
            return None
        return _parse(os.pread(stream.fileno(), LONGEST_NOTE, 0))


def last_note(path: Path) -> FileLockHolder | None:
    """Return what the current or last holder of *path* recorded, None if there is no file."""
    try:
        return _parse(read_regular(path, LONGEST_NOTE))
    except (FileNotFoundError, NotADirectoryError, NotARegularFileError, TooLargeError):
        return None


def flock_holder(path: Path) -> int | None:
    """Return the pid that holds the flock on *path* according to the kernel (Linux only), None if unknown."""
    try:
        status = path.stat()
        lines = Path("/proc/locks").read_text(encoding="ascii").splitlines()
    except OSError:
        return None
    # proc_locks(5): ordinal, FLOCK, ADVISORY, WRITE, pid, major:minor:inode (hexadecimal but for the inode), range
    candidates: dict[int, str] = {}
    for fields in map(str.split, lines):
        if fields[1] == "FLOCK" and int(fields[4]) > 0 and fields[5].rpartition(":")[2] == str(status.st_ino):
            candidates[int(fields[4])] = fields[5]
    device = f"{os.major(status.st_dev):02x}:{os.minor(status.st_dev):02x}:{status.st_ino}"
    exact = [pid for pid, file in candidates.items() if file == device]
    if exact or len(candidates) == 1:
        return (exact or list(candidates))[0]
    # Overlay file systems and Btrfs report another device to stat(2) than here; then the holder's note decides.
    note = last_note(path)
    return note.pid if note is not None and note.pid in candidates else None


def _parse(content: bytes) -> FileLockHolder:
    try:
        facts = parse_json(content)
        return FileLockHolder(integer_between(0, LARGEST_PID)(facts.pop("pid")), facts)
    except (ValueError, KeyError, AttributeError, TypeError):
        return FileLockHolder(0, {})
