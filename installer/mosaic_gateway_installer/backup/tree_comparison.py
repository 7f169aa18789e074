"""Compares a copy with its source: every name, kind, mode, size and byte; hashes each file in the same pass."""

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

from mosaic_gateway import fs
from mosaic_gateway_installer.backup.tree_copy import Skip

__all__ = ["Comparison", "Difference", "DifferenceKind", "FileEntry", "compare_trees", "hash_files"]

CHUNK = 1 << 20  # bytes in memory for each worker and side
RANGE = 64 << 20  # bytes of one file that a worker compares at a time: a database may be one large file
WORKERS = 2


class DifferenceKind(StrEnum):
    """How two entries differ; ``missing`` and ``extra`` refer to the copy."""

    MISSING = "missing"
    EXTRA = "extra"
    KIND = "kind"
    MODE = "mode"
    SIZE = "size"
    CONTENT = "content"
    LINK = "link"


@dataclass(frozen=True, slots=True)
class Difference:
    """One difference: the path relative to the top (``.`` for the top itself), and what differs."""

    path: str
    kind: DifferenceKind


@dataclass(frozen=True, slots=True)
class FileEntry:
    """A regular file: its path relative to the top, size in bytes, SHA-256 in hexadecimal (empty: not known yet)."""

    path: str
    size: int
    sha256: str


@dataclass(frozen=True, slots=True)
class Comparison:
    """The result of `compare_trees`; ``files`` are the copy's, sorted by path."""

    differences: tuple[Difference, ...]
    files: tuple[FileEntry, ...]

    @property
    def equal(self) -> bool:
        """Whether the copy is equal to its source."""
        return not self.differences


def compare_trees(source: Path, copy: Path, *, skip: Skip = lambda _name: False, hashes: bool = True) -> Comparison:
    """Compare *copy* with *source* (two directories, or two files), byte by byte.

    Without *hashes* the ``sha256`` of all ``files`` is empty, and the comparison takes about half the time.
    Paths that *skip* excludes, sockets, pipes, owners and times are ignored (see `copy_tree`).
    Recently written data is read from the page cache; that it is on disk is ensured by the fsync of the copy.
    Raises OSError.
    """
    originals, copies = dict(_entries(source, skip)), dict(_entries(copy, skip))
    differences = [Difference(path, DifferenceKind.MISSING) for path in originals if path not in copies]
    differences += [Difference(path, DifferenceKind.EXTRA) for path in copies if path not in originals]
    both = [path for path in originals if path in copies]
    differences += [difference for path in both for difference in _metadata(path, originals[path], copies[path])]
    files = [path for path in copies if stat.S_ISREG(copies[path].st_mode)]
    links = [path for path in both if stat.S_ISLNK(originals[path].st_mode) and stat.S_ISLNK(copies[path].st_mode)]
    differences += [
        Difference(path, DifferenceKind.LINK)
        for path in links
        if (source / path).readlink() != (copy / path).readlink()
    ]

    peers = {path for path in files if path in originals and stat.S_ISREG(originals[path].st_mode)}
    resized = {difference.path for difference in differences if difference.kind is DifferenceKind.SIZE}
    with ThreadPoolExecutor(WORKERS, thread_name_prefix="compare") as pool:
        if hashes:
            results = list(pool.map(lambda path: _inspect(copy, path, source if path in peers else None), files))
        else:
            sizes = {path: copies[path].st_size for path in files if path in peers - resized}
            same_content = _compare_contents(pool, source, copy, sizes)
            results = [(FileEntry(path, copies[path].st_size, ""), same_content.get(path, True)) for path in files]
    differences += [
        Difference(entry.path, DifferenceKind.CONTENT)
        for entry, same in results
        if not same and entry.path not in resized
    ]
    return Comparison(
        tuple(sorted(differences, key=lambda difference: difference.path)),
        tuple(sorted((entry for entry, _ in results), key=lambda entry: entry.path)),
    )


def hash_files(
    top: Path, *, skip: Skip = lambda _name: False, known: Mapping[str, FileEntry] = MappingProxyType({})
) -> tuple[FileEntry, ...]:
    """Return the entry of every regular file below *top*, sorted by path; *known* hashes are not computed again.

    Raises OSError.
    """
    files = [(path, status.st_size) for path, status in _entries(top, skip) if stat.S_ISREG(status.st_mode)]

    def entry_of(path: str, size: int) -> FileEntry:
        entry = known.get(path)
        return entry if entry is not None and entry.sha256 and entry.size == size else _inspect(top, path, None)[0]

    with ThreadPoolExecutor(WORKERS, thread_name_prefix="hash") as pool:
        return tuple(sorted(pool.map(lambda file: entry_of(*file), files), key=lambda entry: entry.path))


def _entries(top: Path, skip: Skip) -> Iterator[tuple[str, os.stat_result]]:
    """Yield path and status of *top* and everything below it that `copy_tree` copies."""
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


def _metadata(path: str, original: os.stat_result, copy: os.stat_result) -> Iterator[Difference]:
    if stat.S_IFMT(original.st_mode) != stat.S_IFMT(copy.st_mode):
        yield Difference(path, DifferenceKind.KIND)
        return
    if not stat.S_ISLNK(copy.st_mode) and original.st_mode != copy.st_mode:
        yield Difference(path, DifferenceKind.MODE)
    if stat.S_ISREG(copy.st_mode) and original.st_size != copy.st_size:
        yield Difference(path, DifferenceKind.SIZE)


def _compare_contents(pool: ThreadPoolExecutor, source: Path, copy: Path, sizes: Mapping[str, int]) -> dict[str, bool]:
    """Return for each path, whose two files have equal sizes, whether their bytes are equal."""
    ranges = [(path, start) for path, size in sizes.items() for start in range(0, size, RANGE)]
    same = dict.fromkeys(sizes, True)
    for (path, _), equal in zip(ranges, pool.map(lambda part: _same_range(source, copy, *part), ranges), strict=True):
        same[path] = same[path] and equal
    return same


def _same_range(source: Path, copy: Path, path: str, start: int) -> bool:
    """Return whether both files *path* have the same bytes in the `RANGE` bytes from *start* on."""
    with ExitStack() as stack:
        copied, original = _open(stack, copy / path), _open(stack, source / path)
        copied_bytes, original_bytes = _buffer(copied), _buffer(copied)
        position = start
        while position < start + RANGE:
            count = os.preadv(copied, [copied_bytes], position)
            if os.preadv(original, [original_bytes], position) != count:
                return False
            if not _equal(copied_bytes, original_bytes, count):
                return False
            if count == 0:
                break
            position += count
    return True


def _inspect(copy: Path, path: str, source: Path | None) -> tuple[FileEntry, bool]:
    """Hash the file *path* of *copy*, and compare it with that of *source*; return its entry, and True if equal."""
    digest, size, same = hashlib.sha256(), 0, True
    with ExitStack() as stack:
        copied = _open(stack, copy / path)
        original = _open(stack, source / path) if source is not None else None
        copied_bytes, original_bytes = _buffer(copied), _buffer(copied)
        while count := os.readv(copied, [copied_bytes]):
            digest.update(memoryview(copied_bytes)[:count])
            if original is not None and same:
                same = os.preadv(original, [memoryview(original_bytes)[:count]], size) == count
                same = same and _equal(copied_bytes, original_bytes, count)
            size += count
        if original is not None and same:
            same = os.fstat(original).st_size == size
    return FileEntry(path, size, digest.hexdigest()), same


def _equal(first: bytearray, second: bytearray, count: int) -> bool:
    """Compare the first *count* bytes as bytearrays, which uses memcmp; memoryviews are compared item by item."""
    return first == second if count == len(first) else first[:count] == second[:count]


def _buffer(descriptor: int) -> bytearray:
    """Return a buffer no larger than the file: for small files, allocating a full one takes longer than reading."""
    return bytearray(max(1, min(CHUNK, os.fstat(descriptor).st_size)))


def _open(stack: ExitStack, path: Path) -> int:
    descriptor = fs.open_descriptor(path)
    stack.callback(os.close, descriptor)
    return descriptor
