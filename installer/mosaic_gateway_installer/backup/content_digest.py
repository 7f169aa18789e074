"""SHA-256 of each file of a copy, computed while it is copied.

A small file is hashed by the thread that copied it, because handing it over would take longer. A large file is hashed
by a second thread, shortly behind the copy: a database is often one large file.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from queue import SimpleQueue
from threading import BoundedSemaphore

from mosaic_gateway_installer.backup.tree_comparison import FileEntry
from mosaic_gateway_installer.backup.tree_copy import FileFollower, SizeCallback

__all__ = ["hashing"]

HASHERS = 2
WAITING = 64  # large files that may stay open until they are hashed
SMALL = 1 << 20  # bytes
CHUNK = 1 << 20  # bytes in memory for each worker

#: The number of bytes copied so far, each time it grows; None at the end.
_Sizes = SimpleQueue[int | None]


@contextmanager
def hashing() -> Iterator[tuple[FileFollower, Callable[[], tuple[FileEntry, ...]]]]:
    """Yield a follower for `copy_tree`, and a function that returns the entries of all files after the block."""
    entries: list[FileEntry] = []
    hashed: list[Future[FileEntry]] = []
    free = BoundedSemaphore(WAITING)
    with ThreadPoolExecutor(HASHERS, thread_name_prefix="hash") as pool:

        def hash_growing(path: str, descriptor: int, sizes: _Sizes) -> FileEntry:
            try:
                return _hash_growing(path, descriptor, sizes)
            finally:
                os.close(descriptor)
                free.release()

        @contextmanager
        def follow(path: str, descriptor: int) -> Iterator[SizeCallback]:
            sizes: _Sizes = SimpleQueue()
            large = False

            def grown(size: int) -> None:
                nonlocal large
                sizes.put(size)
                if size > SMALL and not large:
                    large = True
                    free.acquire()
                    hashed.append(pool.submit(hash_growing, path, os.dup(descriptor), sizes))

            try:
                yield grown
            finally:
                sizes.put(None)
            if not large:
                entries.append(_hash_growing(path, descriptor, sizes))

        yield follow, lambda: (*entries, *(future.result() for future in hashed))


def _hash_growing(path: str, descriptor: int, sizes: _Sizes) -> FileEntry:
    """Return the entry of *path*, the file open at *descriptor*; the file offset is unchanged. Raises OSError."""
    hashed = _Hash(descriptor)
    for size in iter(sizes.get, None):
        hashed.extend_to(size)
    final = os.fstat(descriptor).st_size
    if hashed.size != final:  # the source, and so the copy, was truncated meanwhile
        hashed = _Hash(descriptor)
        hashed.extend_to(final)
    return FileEntry(path, hashed.size, hashed.digest.hexdigest())


class _Hash:
    """The hash of the first ``size`` bytes of an open file."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self.digest = hashlib.sha256()
        self.size = 0

    def extend_to(self, size: int) -> None:
        """Hash the file's bytes up to *size*, or to its end. Raises OSError."""
        content = memoryview(bytearray(max(1, min(CHUNK, size - self.size))))
        while count := os.preadv(self._descriptor, [content[: max(0, size - self.size)]], self.size):
            self.digest.update(content[:count])
            self.size += count
