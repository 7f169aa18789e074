"""Is the copy what its source is? Every name, kind, mode, size and byte; and a hash of each file on the way."""

from __future__ import annotations

import hashlib
import os
import stat
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from types import MappingProxyType

from mosaic_gateway.fs.files import open_descriptor
from mosaic_gateway_installer.backup.tree_copy import Skip

__all__ = ["Comparison", "Difference", "DifferenceKind", "FileEntry", "compare_trees", "hash_files"]

CHUNK = 1 << 20  # bytes in memory for each worker and side
SHARE = 64 << 20  # bytes of one file that a worker compares at a time: a database may be one large file
WORKERS = 2


class DifferenceKind(StrEnum):
    """In what two entries differ; ``missing`` and ``extra`` are said of the copy."""

    MISSING = "missing"
    EXTRA = "extra"
    KIND = "kind"
    MODE = "mode"
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
    What *skip* names, and sockets and pipes, do not count (see `copy_tree`); nor do owners and times.
    The page cache answers for what was just written: the disk is vouched for by the flush.
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

    peers = {path for path in files if path in theirs and stat.S_ISREG(theirs[path].st_mode)}
    sizes = {difference.path for difference in found if difference.kind is DifferenceKind.SIZE}
    with ThreadPoolExecutor(WORKERS, thread_name_prefix="compare") as pool:
        if hashes:
            looked = list(pool.map(lambda path: _inspect(copy, path, source if path in peers else None), files))
        else:
            alike = _alike(pool, source, copy, {path: ours[path].st_size for path in files if path in peers - sizes})
            looked = [(FileEntry(path, ours[path].st_size, ""), alike.get(path, True)) for path in files]
    found += [
        Difference(entry.path, DifferenceKind.CONTENT) for entry, same in looked if not same and entry.path not in sizes
    ]
    return Comparison(
        tuple(sorted(found, key=lambda difference: difference.path)),
        tuple(sorted((entry for entry, _ in looked), key=lambda entry: entry.path)),
    )


def hash_files(
    top: Path, *, skip: Skip = lambda _name: False, known: Mapping[str, FileEntry] = MappingProxyType({})
) -> tuple[FileEntry, ...]:
    """Return every regular file below *top* with its hash, sorted by path; what is *known* is not read.

    Raises OSError.
    """
    files = [(path, status.st_size) for path, status in _entries(top, skip) if stat.S_ISREG(status.st_mode)]

    def look(path: str, size: int) -> FileEntry:
        noted = known.get(path)
        return noted if noted is not None and noted.sha256 and noted.size == size else _inspect(top, path, None)[0]

    with ThreadPoolExecutor(WORKERS, thread_name_prefix="hash") as pool:
        return tuple(sorted(pool.map(lambda file: look(*file), files), key=lambda entry: entry.path))


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
    if stat.S_ISREG(ours.st_mode) and theirs.st_size != ours.st_size:
        yield Difference(path, DifferenceKind.SIZE)


def _alike(pool: ThreadPoolExecutor, source: Path, copy: Path, sizes: Mapping[str, int]) -> dict[str, bool]:
    """Return of each path, whose files are of equal size, whether they hold the same bytes."""
    shares = [(path, start) for path, size in sizes.items() for start in range(0, size, SHARE)]
    same = dict.fromkeys(sizes, True)
    for (path, _), equal in zip(shares, pool.map(lambda share: _same_share(source, copy, *share), shares), strict=True):
        same[path] = same[path] and equal
    return same


def _same_share(source: Path, copy: Path, path: str, start: int) -> bool:
    """Return whether both files called *path* hold the same from *start* on, as far as one share goes."""
    with ExitStack() as stack:
        ours, theirs = _open(stack, copy / path), _open(stack, source / path)
        mine, other = _buffer(ours), _buffer(ours)
        position = start
        while position < start + SHARE:
            count = os.preadv(ours, [mine], position)
            if os.preadv(theirs, [other], position) != count or not _equal(mine, other, count):
                return False
            if count == 0:
                break
            position += count
    return True


def _inspect(copy: Path, path: str, source: Path | None) -> tuple[FileEntry, bool]:
    """Hash the file *path* of *copy*, and read its peer in step; return its entry and whether both are the same."""
    digest, size, same = hashlib.sha256(), 0, True
    with ExitStack() as stack:
        ours = _open(stack, copy / path)
        theirs = _open(stack, source / path) if source is not None else None
        mine, other = _buffer(ours), _buffer(ours)
        while count := os.readv(ours, [mine]):
            digest.update(memoryview(mine)[:count])
            if theirs is not None and same:
                same = os.preadv(theirs, [memoryview(other)[:count]], size) == count and _equal(mine, other, count)
            size += count
        if theirs is not None and same:
            same = os.fstat(theirs).st_size == size
    return FileEntry(path, size, digest.hexdigest()), same


def _equal(mine: bytearray, other: bytearray, count: int) -> bool:
    """Compare the first *count* bytes: two bytearrays as fast as memory goes, where views would go item by item."""
    return mine == other if count == len(mine) else mine[:count] == other[:count]


def _buffer(descriptor: int) -> bytearray:
    """Return room for a chunk, no larger than the file: making it would take longer than reading that."""
    return bytearray(max(1, min(CHUNK, os.fstat(descriptor).st_size)))


def _open(stack: ExitStack, path: Path) -> int:
    descriptor = open_descriptor(path)
    stack.callback(os.close, descriptor)
    return descriptor
