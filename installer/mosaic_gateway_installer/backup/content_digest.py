"""The hash of each file of a copy, taken while the copy is made.

A small file is hashed by whoever copied it: handing it on would take longer. A large one is hashed by a thread of its
own, some steps behind the copy: a database is often one large file.
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
from mosaic_gateway_installer.backup.tree_copy import Follow, Grown

__all__ = ["hashing"]

HASHERS = 2
WAITING = 64  # large copies that are kept open until they are hashed
SMALL = 1 << 20  # bytes
CHUNK = 1 << 20  # bytes in memory for each worker

#: Told how many bytes there are by now; None: no more will come.
_Sizes = SimpleQueue[int | None]


@contextmanager
def hashing() -> Iterator[tuple[Follow, Callable[[], tuple[FileEntry, ...]]]]:
    """Give what follows a copy (`copy_tree`), and what returns the entries of all its files after the block."""
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
        def follow(path: str, descriptor: int) -> Iterator[Grown]:
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
    """Return the entry of *path*, which *descriptor* is open on; its position is not moved. Raises OSError."""
    hashed = _Hash(descriptor)
    for size in iter(sizes.get, None):
        hashed.take(size)
    final = os.fstat(descriptor).st_size
    if hashed.size != final:  # its source was cut off meanwhile, and so was it
        hashed = _Hash(descriptor)
        hashed.take(final)
    return FileEntry(path, hashed.size, hashed.digest.hexdigest())


class _Hash:
    """The hash of the first ``size`` bytes of an open file."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self.digest = hashlib.sha256()
        self.size = 0

    def take(self, size: int) -> None:
        """Go on to *size* bytes, or to where the file ends. Raises OSError."""
        content = memoryview(bytearray(max(1, min(CHUNK, size - self.size))))
        while count := os.preadv(self._descriptor, [content[: max(0, size - self.size)]], self.size):
            self.digest.update(content[:count])
            self.size += count
