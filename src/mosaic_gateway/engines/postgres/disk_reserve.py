"""The disk reserve: a 64 MB file that is deleted when the disk is full, because crash recovery needs space."""

from __future__ import annotations

import os
import shutil
from contextlib import suppress
from pathlib import Path

from mosaic_gateway.fs.files import remove_file
from mosaic_gateway.installation.layout import Home

__all__ = ["create_disk_reserve", "disk_reserve_file", "drop_disk_reserve"]

SIZE = 64 * 1024 * 1024  # bytes: four WAL segments
MINIMUM_FREE = 4 * SIZE  # bytes that must be free to create it


def disk_reserve_file(home: Home) -> Path:
    """Return the path of the disk reserve of *home*: on the file system of the clusters, outside of them."""
    return home.data / ".ballast"


def create_disk_reserve(home: Home) -> None:
    """Create the disk reserve unless it exists, if there is enough space; raises nothing."""
    path = disk_reserve_file(home)
    with suppress(OSError):
        if path.exists() or shutil.disk_usage(home.data).free < MINIMUM_FREE or not hasattr(os, "posix_fallocate"):
            return
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
        try:
            os.posix_fallocate(descriptor, 0, SIZE)
        except OSError:
            remove_file(path)
        finally:
            os.close(descriptor)


def drop_disk_reserve(home: Home) -> bool:
    """Delete the disk reserve; return whether it existed."""
    path = disk_reserve_file(home)
    if not path.exists():
        return False
    remove_file(path)
    return True
