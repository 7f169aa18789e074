"""Scratch directories, in memory if there is room, and directories on small file systems."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from mosaic_gateway.process.file_lock import FileLock

DISKS = "MOSAIC_GATEWAY_TEST_DISKS"  # variable with a directory of file systems, each named by its size in megabytes
DISK_LIMIT = 300.0  # seconds to wait for other tests that use a file system
MEMORY_NEEDED = 4 << 30  # bytes free before scratch directories go into memory


def make_scratch(parent: Path, name: str) -> Path:
    """Create the directory *name* in *parent* with mode 0700."""
    path = parent / name
    path.mkdir(mode=0o700)
    return path


def fast_directory() -> Path | None:
    """Return /dev/shm if it has enough space and permits execution, else None (default directory)."""
    memory = Path("/dev/shm")  # noqa: S108 - mkdtemp creates a private directory in it
    try:
        status = os.statvfs(memory)
    except OSError:
        return None
    sufficient = status.f_bavail * status.f_frsize > MEMORY_NEEDED
    return memory if sufficient and not status.f_flag & os.ST_NOEXEC and os.access(memory, os.W_OK) else None


@contextmanager
def mounted_disk(megabytes: int) -> Iterator[Path]:
    """Mount a tmpfs of *megabytes* for the block; skip the test if root is not allowed to."""
    with tempfile.TemporaryDirectory(prefix="mosaic-d-") as name:
        words = ["mount", "-t", "tmpfs", "-o", f"size={megabytes}m,mode=0755", "tmpfs", name]
        done = subprocess.run(words, capture_output=True, check=False)
        if done.returncode != 0:
            pytest.skip(f"root cannot mount here: {done.stderr.decode().strip()}")
        try:
            yield Path(name)
        finally:
            subprocess.run(["umount", "-l", name], check=True)


@contextmanager
def shared_disk(disks: Path, megabytes: int) -> Iterator[Path]:
    """Lock the smallest sufficient file system in *disks* and fill it except for *megabytes*."""
    disk = min((path for path in disks.iterdir() if int(path.name) >= megabytes), key=lambda path: int(path.name))
    directory, filler = disk / "place", disk / "filler"
    lock = FileLock(disk / "lock")
    assert lock.acquire(timeout=DISK_LIMIT), f"another test process uses {disk}"
    with lock:
        shutil.rmtree(directory, ignore_errors=True)  # left by a killed test
        directory.mkdir(mode=0o700)
        with filler.open("wb") as stream:
            os.posix_fallocate(stream.fileno(), 0, max(shutil.disk_usage(disk).free - (megabytes << 20), 1))
        try:
            yield directory
        finally:
            filler.unlink()
            shutil.rmtree(directory)
