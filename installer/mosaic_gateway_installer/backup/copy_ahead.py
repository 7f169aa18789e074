"""A copy of a running database's files, created ahead of a cold backup and brought up to date after the shutdown.

The SHA-256 of each file is computed while it is copied.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from queue import SimpleQueue
from threading import BoundedSemaphore

from mosaic_gateway import fs
from mosaic_gateway_installer.backup.tree_comparison import Comparison, FileEntry, compare_trees
from mosaic_gateway_installer.backup.tree_copy import FileFollower, SizeCallback, Skip, copy_tree

__all__ = ["EarlyCopy", "bring_up_to_date", "copy_ahead", "hashing"]

HASHERS = 2
WAITING = 64  # large files that may stay open until they are hashed
SMALL = 1 << 20  # bytes
CHUNK = 1 << 20  # bytes in memory for each worker

#: The number of bytes copied so far, each time it grows; None at the end.
_Sizes = SimpleQueue[int | None]
COPIERS = 8  # as `tree_copy.WORKERS`: fsync waits for the disk
COMPARERS = 2
TOP = "."


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


@dataclass(frozen=True, slots=True)
class EarlyCopy:
    """A copy created ahead: its temporary directory, the copy in it, and the entry of each of its files."""

    directory: Path
    copy: Path
    files: tuple[FileEntry, ...]


def copy_ahead(
    data: Path,
    directory: Path,
    *,
    skip: Skip,
    progress: Callable[[int], None] | None = None,
) -> EarlyCopy:
    """Copy *data*, which other processes may change meanwhile, into the new *directory*.

    *skip* must exclude at least what `bring_up_to_date` will exclude. Raises OSError, after removing the copy.
    """
    copy = directory / data.name
    try:
        fs.make_directory(directory)
        with hashing() as (follow, hashed):
            copy_tree(data, copy, skip=skip, vanishing=True, progress=progress, follow=follow)
        return EarlyCopy(directory, copy, hashed())
    except BaseException:
        fs.remove_tree(directory)
        raise


def bring_up_to_date(source: Path, copy: Path, files: Sequence[FileEntry], *, skip: Skip) -> Comparison:
    """Make *copy* equal to *source*, which no process changes any more; return remaining differences and all files.

    *files* are the entries of the copy created ahead. Files that were copied again have no hash. Raises OSError.
    """
    differences = compare_trees(source, copy, skip=skip, hashes=False).differences
    stale = _outermost({difference.path for difference in differences})
    with ThreadPoolExecutor(COPIERS, thread_name_prefix="renew") as pool:
        list(pool.map(lambda path: _renew(source, copy, path, skip), stale))
    renewed = [path for path in stale if os.path.lexists(copy / path)]
    with ThreadPoolExecutor(COMPARERS, thread_name_prefix="again") as pool:
        again = [*zip(renewed, pool.map(lambda path: _compare(source, copy, path, skip), renewed), strict=True)]
    entries = [entry for entry in files if not _is_in(entry.path, stale)]
    entries += [replace(entry, path=_joined(path, entry.path)) for path, result in again for entry in result.files]
    return Comparison(
        tuple(replace(other, path=_joined(path, other.path)) for path, result in again for other in result.differences),
        tuple(sorted(entries, key=lambda entry: entry.path)),
    )


def _renew(source: Path, copy: Path, path: str, skip: Skip) -> None:
    """Replace *path* in the copy by that of the source; remove it if the source has none."""
    old = copy / path
    fs.remove_tree(old, strict=True)
    if os.path.lexists(source / path):
        copy_tree(source / path, old, skip=_below(path, skip))


def _compare(source: Path, copy: Path, path: str, skip: Skip) -> Comparison:
    return compare_trees(source / path, copy / path, skip=_below(path, skip), hashes=False)


def _below(path: str, skip: Skip) -> Skip:
    """Return *skip* for names relative to *path*."""
    return lambda name: skip(_joined(path, name))


def _joined(path: str, name: str) -> str:
    if path == TOP:
        return name
    return path if name == TOP else f"{path}/{name}"


def _outermost(paths: set[str]) -> list[str]:
    """Return those of *paths* that are not below any of the others."""
    if TOP in paths:
        return [TOP]
    return sorted(path for path in paths if not _is_in(path.rpartition("/")[0], paths))


def _is_in(path: str, tops: Sequence[str] | set[str]) -> bool:
    """Return whether *path* is one of *tops*, or below one."""
    if TOP in tops:
        return True
    while path:
        if path in tops:
            return True
        path = path.rpartition("/")[0]
    return False
