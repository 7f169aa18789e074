"""Is the copy what its source is? Every name, kind, mode, size and byte; and a hash of each file on the way."""

from __future__ import annotations

import hashlib
import os
import stat
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from mosaic_gateway_installer.backups.copy import Skip

__all__ = ["Comparison", "Difference", "DifferenceKind", "FileEntry", "compare_trees", "hash_files"]

CHUNK = 1 << 20  # bytes in memory for each worker and side
WORKERS = 2
READ = os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC


class DifferenceKind(StrEnum):
    """In what two entries differ; ``missing`` and ``extra`` are said of the copy."""

    MISSING = "missing"
    EXTRA = "extra"
    KIND = "kind"
    MODE = "mode"
    OWNER = "owner"
    SIZE = "size"
    CONTENT = "content"
    LINK = "link"


@dataclass(frozen=True, slots=True)
class Difference:
    """One difference: the path below the trees' tops (``.`` for these), and what differs."""

    path: str
    kind: DifferenceKind


@dataclass(frozen=True, slots=True)
class FileEntry:
    """A regular file: its path below the top, size in bytes, SHA-256 in hexadecimal (empty: not known yet)."""

    path: str
    size: int
    sha256: str


@dataclass(frozen=True, slots=True)
class Comparison:
    """What `compare_trees` found; ``files`` are the copy's, sorted by path."""

    differences: tuple[Difference, ...]
    files: tuple[FileEntry, ...]

    @property
    def equal(self) -> bool:
        """Whether the copy can stand in for its source."""
        return not self.differences


def compare_trees(source: Path, copy: Path, *, skip: Skip = lambda _name: False, hashes: bool = True) -> Comparison:
    """Compare *copy* with *source* (two directories, or two files), byte by byte.

    Without *hashes* the ``files`` have an empty text instead, and it takes about half the time.
    What *skip* names, and sockets and pipes, do not count (see `copy_tree`); nor do times. Owners count
    for root alone. The page cache answers for what was just written: the disk is vouched for by the flush.
    Raises OSError.
    """
    theirs, ours = dict(_entries(source, skip)), dict(_entries(copy, skip))
    found = [Difference(path, DifferenceKind.MISSING) for path in theirs if path not in ours]
    found += [Difference(path, DifferenceKind.EXTRA) for path in ours if path not in theirs]
    both = [path for path in theirs if path in ours]
    found += [difference for path in both for difference in _metadata(path, theirs[path], ours[path])]
    files = [path for path in ours if stat.S_ISREG(ours[path].st_mode)]
    links = [path for path in both if stat.S_ISLNK(theirs[path].st_mode) and stat.S_ISLNK(ours[path].st_mode)]
    found += [
        Difference(path, DifferenceKind.LINK)
        for path in links
        if (source / path).readlink() != (copy / path).readlink()
    ]

    def look(path: str) -> tuple[FileEntry, bool]:
        peer = path in theirs and stat.S_ISREG(theirs[path].st_mode)
        return _look(copy, path, source if peer else None, hashes=hashes)

    with ThreadPoolExecutor(WORKERS, thread_name_prefix="compare") as pool:
        looked = list(pool.map(look, files))
    sizes = {difference.path for difference in found if difference.kind is DifferenceKind.SIZE}
    found += [
        Difference(entry.path, DifferenceKind.CONTENT) for entry, same in looked if not same and entry.path not in sizes
    ]
    return Comparison(
        tuple(sorted(found, key=lambda difference: difference.path)),
        tuple(sorted((entry for entry, _ in looked), key=lambda entry: entry.path)),
    )


def hash_files(top: Path, *, skip: Skip = lambda _name: False) -> tuple[FileEntry, ...]:
    """Return every regular file below *top* with its hash, sorted by path. Raises OSError."""
    files = [path for path, status in _entries(top, skip) if stat.S_ISREG(status.st_mode)]
    with ThreadPoolExecutor(WORKERS, thread_name_prefix="hash") as pool:
        return tuple(
            sorted(pool.map(lambda path: _look(top, path, None, hashes=True)[0], files), key=lambda entry: entry.path)
        )


def _entries(top: Path, skip: Skip) -> Iterator[tuple[str, os.stat_result]]:
    """Yield path → status of everything from *top* on that a copy has."""
    status = top.lstat()
    yield ".", status
    if not stat.S_ISDIR(status.st_mode):
        return
    pending = [""]
    while pending:
        below = pending.pop()
        with os.scandir(top / below) as entries:
            for entry in entries:
                path = f"{below}{entry.name}"
                status = entry.stat(follow_symlinks=False)
                if skip(path) or not (
                    stat.S_ISREG(status.st_mode) or stat.S_ISDIR(status.st_mode) or stat.S_ISLNK(status.st_mode)
                ):
                    continue
                yield path, status
                if stat.S_ISDIR(status.st_mode):
                    pending.append(f"{path}/")


def _metadata(path: str, theirs: os.stat_result, ours: os.stat_result) -> Iterator[Difference]:
    if stat.S_IFMT(theirs.st_mode) != stat.S_IFMT(ours.st_mode):
        yield Difference(path, DifferenceKind.KIND)
        return
    if not stat.S_ISLNK(ours.st_mode) and theirs.st_mode != ours.st_mode:
        yield Difference(path, DifferenceKind.MODE)
    if os.geteuid() == 0 and (theirs.st_uid, theirs.st_gid) != (ours.st_uid, ours.st_gid):
        yield Difference(path, DifferenceKind.OWNER)
    if stat.S_ISREG(ours.st_mode) and theirs.st_size != ours.st_size:
        yield Difference(path, DifferenceKind.SIZE)


def _look(copy: Path, path: str, source: Path | None, *, hashes: bool) -> tuple[FileEntry, bool]:
    """Read the file *path* of *copy*, and its peer in step; return its entry and whether both are the same."""
    digest, size, same = hashlib.sha256(), 0, True
    with ExitStack() as stack:
        ours = _open(stack, copy / path)
        theirs = _open(stack, source / path) if source is not None else None
        mine, other = bytearray(CHUNK), bytearray(CHUNK)
        while count := os.readv(ours, [mine]):
            if hashes:
                digest.update(memoryview(mine)[:count])
            if theirs is not None and same:
                # Two bytearrays compare as fast as memory goes; views of them item by item.
                same = os.preadv(theirs, [memoryview(other)[:count]], size) == count
                same = same and (mine == other if count == CHUNK else mine[:count] == other[:count])
            size += count
        if theirs is not None and same:
            same = os.fstat(theirs).st_size == size
    return FileEntry(path, size, digest.hexdigest() if hashes else ""), same


def _open(stack: ExitStack, path: Path) -> int:
    descriptor = os.open(path, READ)
    stack.callback(os.close, descriptor)
    return descriptor
