"""What has been written goes to the disk.

Imported, with ctypes, before anybody assumes another account: nothing may be imported after that.
"""

from __future__ import annotations

import ctypes
import os
import sys
from contextlib import suppress
from pathlib import Path

__all__ = ["flush_tree"]


def flush_tree(directory: Path) -> None:
    """Have all below *directory* on the disk: its file system at once (Linux), else file by file. Raises OSError."""
    if sys.platform.startswith("linux"):
        descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
        try:
            with suppress(AttributeError):  # a C library that lacks it
                # syncfs(2): a thousand calls of fsync would make a thousand commits of the file system's journal
                if ctypes.CDLL(None).syncfs(descriptor) == 0:
                    return
        finally:
            os.close(descriptor)
    for root, _, names in os.walk(directory):
        for path in (*(Path(root, name) for name in names), Path(root)):
            descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW)
            try:
                os.fsync(descriptor)
            finally:
                os.close(descriptor)
