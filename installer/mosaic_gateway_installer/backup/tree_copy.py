"""Copies a directory tree, or a file, so that the copy can stand in for it.

Kept: names, contents, holes, modes, times of change, symbolic links as links. Not kept: owners (a copy belongs to the
user who makes it), hard links (each becomes a file of its own), sockets and pipes (they hold no data), extended
attributes.
Where the file system can share blocks (Btrfs, XFS, bcachefs …) nothing is copied at all, FICLONE in
ioctl_ficlone(2). Directories are walked by descriptor and links are never followed, so a directory that is exchanged
for a link meanwhile leads nowhere else.
"""

from __future__ import annotations

import errno
import os
import secrets
import shutil
import stat
import sys
import tempfile
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from dataclasses import dataclass, field
from fcntl import ioctl
from pathlib import Path

from mosaic_gateway.fs.files import open_descriptor, open_regular
from mosaic_gateway.fs.flush import begin_flush

__all__ = ["CopyReport", "Follow", "Grown", "Skip", "can_share", "copy_tree", "remove_tree", "staged", "sync_directory"]

FICLONE = 0x40049409  # <linux/fs.h>: _IOW(0x94, 9, int)
CHUNK = 1 << 20  # bytes in memory for each worker
STEP = 32 << 20  # bytes that one copy call may move; they are on their way to the disk while the next are copied
#: Flushing waits for the disk, so more workers than processors: their waits become one.
WORKERS = 8
#: What the kernel says where it cannot share blocks, or cannot copy by itself.
NOT_HERE = {errno.EXDEV, errno.ENOSYS, errno.EINVAL, errno.EOPNOTSUPP, errno.ENOTTY, errno.EPERM, errno.ETXTBSY}
DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
CREATE = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC

#: Asked with a path below the top ("base/1"): whether to leave it out.
Skip = Callable[[str], bool]
#: Told how many bytes of a file's copy are there by now; the last time, all are.
Grown = Callable[[int], None]
#: Gives what is told so of one file: its path below the top, and a descriptor of its copy. In a worker's thread.
Follow = Callable[[str, int], AbstractContextManager[Grown]]


@dataclass(frozen=True, slots=True, kw_only=True)
class CopyReport:
    """What was copied: ``size`` in bytes, ``shared`` the files that share their blocks with the source."""

    files: int
    size: int
    shared: int


def copy_tree(
    source: Path,
    target: Path,
    *,
    skip: Skip = lambda _name: False,
    vanishing: bool = False,
    progress: Callable[[int], None] | None = None,
    follow: Follow = lambda _path, _copy: nullcontext(_missed_files),
) -> CopyReport:
    """Copy *source* (directory, file or link) to *target*, which must not exist.

    *target* appears whole and on disk, or not at all. *skip* is asked with each path below *source*
    ("base/1"); what it answers True for is left out, a directory with all it holds. With *vanishing*,
    files that go away meanwhile are no error (a database at work). *progress* is told the bytes copied so far, now
    and then, in the caller's thread; *follow* follows each file before it is flushed. Takes memory for `WORKERS`
    chunks and the names of one directory.

    Raises FileExistsError for a target that is there, and OSError.
    """
    if target.exists() or target.is_symlink():
        raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), str(target))
    with staged(target) as temporary, ThreadPoolExecutor(WORKERS, thread_name_prefix="copy") as pool:
        copying = _Copying(pool, skip, vanishing=vanishing, progress=progress, follow=follow)
        with _opened(source.parent, os.O_RDONLY | os.O_DIRECTORY) as above, _opened(temporary.parent) as beside:
            copying.entry(above, source.name, beside, temporary.name, "")
        return CopyReport(files=copying.files, size=copying.size, shared=copying.shared)


@contextmanager
def staged(target: Path) -> Iterator[Path]:
    """Give a sibling of *target* to build it at; renamed to *target* at the end, removed if the block fails.

    The builder flushes what it makes; the rename is flushed here. Raises OSError where *target* is a directory that is
    not empty.
    """
    temporary = target.with_name(f".{target.name}.{secrets.token_hex(4)}.tmp")
    try:
        yield temporary
        temporary.rename(target)
    except BaseException:
        remove_tree(temporary)
        raise
    sync_directory(target.parent)


def can_share(source: Path, directory: Path) -> bool:
    """Return whether copies of the files in *source* would share their blocks in *directory*: tried with one."""
    file = next((path for path in source.iterdir() if path.is_file() and not path.is_symlink()), None)
    if file is None or not directory.is_dir() or sys.platform != "linux":
        return False
    try:
        with open_regular(file) as reader, tempfile.TemporaryFile(dir=directory) as writer:
            ioctl(writer.fileno(), FICLONE, reader.fileno())
    except OSError:
        return False
    return True


def sync_directory(path: Path) -> None:
    """Bring the names in *path* to disk. Raises OSError."""
    with _opened(path) as descriptor:
        os.fsync(descriptor)


def remove_tree(path: Path) -> None:
    """Remove *path* as far as that can be done, a directory with all it holds; links are not followed."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        with suppress(OSError):
            path.unlink()


@dataclass(slots=True)
class _Copying:
    """One copy under way."""

    pool: ThreadPoolExecutor
    skip: Skip
    vanishing: bool = field(kw_only=True)
    progress: Callable[[int], None] | None = field(kw_only=True)
    follow: Follow = field(kw_only=True)
    files: int = 0
    size: int = 0
    shared: int = 0
    may_share: bool = sys.platform == "linux"

    def entry(self, source: int, name: str, target: int, new_name: str, path: str) -> None:
        """Copy the entry *name* of the directory *source* to *new_name* in *target*."""
        status = os.stat(name, dir_fd=source, follow_symlinks=False)
        if stat.S_ISDIR(status.st_mode):
            os.mkdir(new_name, 0o700, dir_fd=target)
            with _opened(name, dir_fd=source) as inside, _opened(new_name, dir_fd=target) as copy:
                self._directory(inside, copy, path)
                self._keep(copy, status)
                os.fsync(copy)
        elif stat.S_ISREG(status.st_mode):
            self._count(self._file(source, name, target, new_name, path or "."))
        elif stat.S_ISLNK(status.st_mode):
            os.symlink(os.readlink(name, dir_fd=source), new_name, dir_fd=target)

    def _directory(self, source: int, target: int, path: str) -> None:
        """Copy what *source* holds: files by the workers, the rest in turn."""
        files: list[str] = []
        others: list[str] = []
        with os.scandir(source) as entries:
            for entry in entries:
                if not self.skip(f"{path}{entry.name}"):
                    (files if entry.is_file(follow_symlinks=False) else others).append(entry.name)
        self._files(sorted(files), source, target, path)
        for name in sorted(others):
            with self._gone_is_fine():
                self.entry(source, name, target, name, f"{path}{name}/")

    def _files(self, names: list[str], source: int, target: int, path: str) -> None:
        futures = [self.pool.submit(self._file, source, name, target, name, f"{path}{name}") for name in names]
        try:
            for future in futures:
                self._count(future.result())
        except BaseException:
            for future in futures:
                future.cancel()
            wait(futures)  # a worker at work has the directories' descriptors, which end with the caller
            raise

    def _file(self, source: int, name: str, target: int, new_name: str, path: str) -> tuple[int, bool] | None:
        """Copy a regular file; return its size and whether blocks are shared, None if it is gone."""
        try:
            reader = open_descriptor(name, dir_fd=source)
        except FileNotFoundError:
            if self.vanishing:
                return None
            raise
        try:
            writer = os.open(new_name, CREATE, 0o600, dir_fd=target)
            try:
                with self.follow(path, writer) as grown:
                    shared = self._share(reader, writer)
                    if not shared:
                        _copy_content(reader, writer, grown)
                    grown(os.fstat(writer).st_size)
                self._keep(writer, os.fstat(reader))
                os.fsync(writer)
                return os.fstat(writer).st_size, shared
            finally:
                os.close(writer)
        finally:
            os.close(reader)

    def _share(self, reader: int, writer: int) -> bool:
        if not self.may_share:
            return False
        try:
            ioctl(writer, FICLONE, reader)
        except OSError as error:
            if error.errno not in NOT_HERE:
                raise
            self.may_share = False
            return False
        return True

    def _keep(self, descriptor: int, status: os.stat_result) -> None:
        """Give the copy the mode and times of *status*."""
        os.fchmod(descriptor, stat.S_IMODE(status.st_mode))
        os.utime(descriptor, ns=(status.st_atime_ns, status.st_mtime_ns))

    def _count(self, done: tuple[int, bool] | None) -> None:
        if done is None:
            return
        self.files += 1
        self.size += done[0]
        self.shared += done[1]
        if self.progress is not None:
            self.progress(self.size)

    @contextmanager
    def _gone_is_fine(self) -> Iterator[None]:
        if self.vanishing:
            with suppress(FileNotFoundError):
                yield
        else:
            yield


@contextmanager
def _opened(path: str | Path, flags: int = DIRECTORY, *, dir_fd: int | None = None) -> Iterator[int]:
    descriptor = os.open(path, flags, dir_fd=dir_fd)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def _missed_files(_size: int) -> None:
    """Follow nothing."""


def _copy_content(reader: int, writer: int, grown: Grown) -> None:
    """Copy the parts that hold data; holes stay holes. The length is what it is in the end."""
    position, size = 0, os.fstat(reader).st_size
    while position < size:
        start, end = _next_data(reader, position, size)
        _copy_range(reader, writer, start, end, grown)
        position, size = end, os.fstat(reader).st_size  # a file at work may have grown
    os.ftruncate(writer, size)


def _next_data(reader: int, position: int, size: int) -> tuple[int, int]:
    """Return where the next data begins and ends; *size* twice if only a hole follows."""
    if not hasattr(os, "SEEK_DATA"):
        return position, size
    try:
        start = os.lseek(reader, position, os.SEEK_DATA)
        return start, os.lseek(reader, start, os.SEEK_HOLE)
    except OSError as error:
        if error.errno == errno.ENXIO:
            return size, size
        if error.errno in NOT_HERE:
            return position, size
        raise


def _copy_range(reader: int, writer: int, start: int, end: int, grown: Grown) -> None:
    while start < end:
        try:
            moved = os.copy_file_range(reader, writer, min(end - start, STEP), start, start)
        except (AttributeError, OSError) as error:
            if isinstance(error, OSError) and error.errno not in NOT_HERE:
                raise
            moved = _copy_chunk(reader, writer, start, end)
        if moved == 0:  # it was cut off meanwhile
            return
        if moved == STEP:  # a large file, which its own end would leave much to wait for
            begin_flush(writer, start, moved)
        start += moved
        grown(start)


def _copy_chunk(reader: int, writer: int, start: int, end: int) -> int:
    data = os.pread(reader, min(end - start, CHUNK), start)
    written = 0
    while written < len(data):
        written += os.pwrite(writer, data[written:], start + written)
    return written
