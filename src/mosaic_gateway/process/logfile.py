"""Rotating log files for the output of another process, and reading the last lines of a log."""

from __future__ import annotations

import os
import threading
from collections import deque
from collections.abc import Callable, Iterable
from contextlib import suppress
from pathlib import Path
from typing import IO, BinaryIO

from mosaic_gateway.fs.files import NotARegularFileError, open_descriptor, open_regular

__all__ = ["LogPump", "RotatingFile", "read_tail", "size_of", "tail_of"]

DEFAULT_SIZE = 5 * 1024 * 1024  # bytes
DEFAULT_KEEP = 3  # rotated files; name.1 is the newest
TAIL_LINES = 60
LONGEST_TAIL = 1024 * 1024  # bytes


class RotatingFile:
    """An append-only file of about *size* bytes with *keep* rotated files (``.1`` to ``.keep``).

    Not thread-safe: one writer only. Does not follow a symbolic link in place of the file.
    """

    def __init__(self, path: Path, *, size: int = DEFAULT_SIZE, keep: int = DEFAULT_KEEP) -> None:
        self._path = path
        self._size = size
        self._keep = keep
        self._stream: IO[bytes] | None = None
        self._written = 0

    def write(self, line: bytes) -> None:
        """Append *line*; rotate first if it would exceed the size. Raises OSError."""
        if self._stream is not None and self._written + len(line) > self._size:
            self.close()
            self._rotate()
        if self._stream is None:
            self._stream = self._open()
        self._stream.write(line)
        self._written += len(line)

    def close(self) -> None:
        """Close the file; a later write reopens it."""
        if self._stream is not None:
            self._stream.close()
            self._stream = None

    def _open(self) -> IO[bytes]:
        descriptor = open_descriptor(self._path, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
        self._written = os.fstat(descriptor).st_size
        return os.fdopen(descriptor, "ab", buffering=0)

    def _rotate(self) -> None:
        for number in range(self._keep, 0, -1):
            older = self._path.with_name(f"{self._path.name}.{number}")
            newer = self._path if number == 1 else self._path.with_name(f"{self._path.name}.{number - 1}")
            with suppress(FileNotFoundError):
                newer.rename(older)


class LogPump:
    """A thread that copies a process's output into a `RotatingFile` and remembers its last lines.

    It closes the stream and ends at end of file. If the disk is full, log lines are lost; the process that
    writes them is not blocked.
    """

    def __init__(
        self, stream: IO[bytes], target: RotatingFile, *, on_line: Callable[[bytes], None] | None = None
    ) -> None:
        self._stream = stream
        self._target = target
        self._on_line = on_line
        self._last: deque[bytes] = deque(maxlen=TAIL_LINES)
        self._thread = threading.Thread(target=self._run, name="log-pump", daemon=True)

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    def join(self, timeout: float) -> None:
        """Wait at most *timeout* seconds for the end of the output."""
        self._thread.join(timeout)

    def tail(self) -> str:
        """Return the last lines as text."""
        return b"".join(tuple(self._last)).decode(errors="replace").strip()

    def _run(self) -> None:
        for line in self._stream:
            self._last.append(line)
            with suppress(OSError):
                self._target.write(line)
            if self._on_line is not None:
                self._on_line(line)
        self._target.close()
        self._stream.close()


def tail_of(path: Path, lines: int, *, since: int = 0) -> Iterable[str]:
    """Return the last *lines* lines of *path*, none if there is no such regular file.

    Reads at most 1 MiB, and nothing before the offset *since* (bytes) unless the file is shorter than that.
    """
    try:
        with open_regular(path) as stream:
            return read_tail(stream, lines, since=since)
    except (FileNotFoundError, NotADirectoryError, NotARegularFileError):
        return []


def read_tail(stream: BinaryIO, lines: int, *, since: int = 0) -> Iterable[str]:
    """Return the last *lines* lines of *stream*, like `tail_of`; the position is the end of the file afterwards."""
    end = stream.seek(0, os.SEEK_END)
    stream.seek(max(since if since <= end else 0, end - LONGEST_TAIL))
    content = stream.read(LONGEST_TAIL)
    if not content or lines == 0:
        return []
    return [line.decode(errors="replace") for line in content.removesuffix(b"\n").split(b"\n")[-lines:]]


def size_of(path: Path) -> int:
    """Return the size of the log *path* in bytes, 0 if there is none."""
    try:
        with open_regular(path) as stream:
            return os.fstat(stream.fileno()).st_size
    except OSError:
        return 0
