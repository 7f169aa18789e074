"""Flushing of written data to disk: syncfs(2), fsync(2), sync_file_range(2)."""

from __future__ import annotations

import ctypes
import os
import sys
from contextlib import suppress
from pathlib import Path

__all__ = ["begin_flush", "flush_tree"]

SYNC_FILE_RANGE_WRITE = 2  # <linux/fs.h>


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
