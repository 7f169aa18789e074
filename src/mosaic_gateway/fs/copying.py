"""Copying of file content, and flushing of written data to disk.

With copy_file_range(2), or by reading and writing where that is not supported; syncfs(2), fsync(2),
sync_file_range(2).
"""

from __future__ import annotations

import ctypes
import errno
import os
import sys
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

__all__ = ["UNSUPPORTED", "begin_flush", "copy_range", "flush_tree"]

SYNC_FILE_RANGE_WRITE = 2  # <linux/fs.h>
CHUNK = 1 << 20  # bytes in memory
STEP = 32 << 20  # bytes of one copy_file_range(2) call; they are written to disk while the next are copied
#: The errors of FICLONE, copy_file_range(2), SEEK_DATA and link(2) where they are not supported.
UNSUPPORTED = {errno.EXDEV, errno.ENOSYS, errno.EINVAL, errno.EOPNOTSUPP, errno.ENOTTY, errno.EPERM, errno.ETXTBSY}


def flush_tree(directory: Path) -> None:
    """Flush all files below *directory* to disk: by syncfs(2) on Linux, else by fsync of each file. Raises OSError."""
    if sys.platform.startswith("linux"):
        descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
        try:
            with suppress(AttributeError):  # the C library lacks it
                # A thousand calls of fsync would cause a thousand commits of the file system's journal.
                if ctypes.CDLL(None).syncfs(descriptor) == 0:
                    return
        finally:
            os.close(descriptor)
    for root, _, names in os.walk(directory):
        for path in (*(Path(root, name) for name in names), Path(root)):
            descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
            try:
                os.fsync(descriptor)
            finally:
                os.close(descriptor)


def begin_flush(descriptor: int, start: int, length: int) -> None:
    """Start writing the given bytes to disk in the background; a later flush waits for it and reports errors."""
    if sys.platform.startswith("linux"):
        with suppress(AttributeError):  # the C library lacks it
            call = ctypes.CDLL(None).sync_file_range
            call(descriptor, ctypes.c_int64(start), ctypes.c_int64(length), SYNC_FILE_RANGE_WRITE)


def copy_range(
    reader: int, writer: int, start: int, end: int, grown: Callable[[int], object] = lambda _size: None
) -> None:
    """Copy the bytes from *start* to *end* of one open file to the same place in another.

    *grown* is called with the position reached. A source that is truncated meanwhile ends the copy. Raises OSError.
    """
    while start < end:
        try:
            moved = os.copy_file_range(reader, writer, min(end - start, STEP), start, start)
        except (AttributeError, OSError) as error:
            if isinstance(error, OSError) and error.errno not in UNSUPPORTED:
                raise
            moved = _copy_chunk(reader, writer, start, end)
        if moved == 0:  # the source was truncated meanwhile
            return
        if moved == STEP:  # a large file: start writing it to disk now, so that its fsync is short
            begin_flush(writer, start, moved)
        start += moved
        grown(start)


def _copy_chunk(reader: int, writer: int, start: int, end: int) -> int:
    data = os.pread(reader, min(end - start, CHUNK), start)
    written = 0
    while written < len(data):
        written += os.pwrite(writer, data[written:], start + written)
    return written
