"""Copies a directory tree or a file, and fsyncs the copy.

Preserved: names, contents, holes, modes, modification times, symbolic links. Not preserved: owners (the copy belongs
to the user who creates it), hard links (each becomes a separate file), sockets and pipes, extended attributes.
On file systems that can share blocks (Btrfs, XFS, bcachefs …) files are cloned, see ioctl_ficlone(2). Directories are
opened relative to their parent's descriptor, and symbolic links are never followed, so that replacing a directory by
a link meanwhile does not redirect the copy.
"""

from __future__ import annotations

import errno
import os
import stat
import sys
import tempfile
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from dataclasses import dataclass, field
from fcntl import ioctl
from pathlib import Path

from mosaic_gateway import fs
from mosaic_gateway.cli import Reporter

__all__ = [
    "CopyReport",
    "FileFollower",
    "SizeCallback",
    "Skip",
    "can_share",
    "copy_tree",
    "report_progress",
]

FICLONE = 0x40049409  # <linux/fs.h>: _IOW(0x94, 9, int)
#: More workers than processors, because fsync waits for the disk: the waits overlap.
WORKERS = 8
DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
CREATE = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC

#: Returns whether to exclude a path, which is relative to the top ("base/1").
Skip = Callable[[str], bool]
#: Called with the number of bytes of a file copied so far; the last call has the file's size.
SizeCallback = Callable[[int], None]
#: Called in a worker thread for each file, with its path relative to the top and a descriptor of its copy; yields the
#: callback for its size.
FileFollower = Callable[[str, int], AbstractContextManager[SizeCallback]]


@dataclass(frozen=True, slots=True, kw_only=True)
class CopyReport:
    """The result of a copy: ``size`` in bytes, ``shared`` the number of files that share blocks with the source."""

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
    follow: FileFollower = lambda _path, _copy: nullcontext(_ignore_size),
) -> CopyReport:
    """Copy *source* (directory, file or link) to *target*, which must not exist.

    *target* appears complete and fsynced, or not at all. *skip* is called with each path relative to *source*
    ("base/1"); if it returns True, the path is excluded, a directory with its content. With *vanishing*, files that
    disappear meanwhile are no error (a running database). *progress* is called with the bytes copied so far, in the
    caller's thread; *follow* is called for each file, before its fsync. Memory use is `WORKERS` chunks and the names
    of one directory.

    Raises FileExistsError if the target exists, and OSError.
    """
    if target.exists() or target.is_symlink():
        raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), str(target))
    with fs.staged(target) as temporary, ThreadPoolExecutor(WORKERS, thread_name_prefix="copy") as pool:
        copying = _Copying(pool, skip, vanishing=vanishing, progress=progress, follow=follow)
        with (
            _opened(source.parent, os.O_RDONLY | os.O_DIRECTORY) as source_parent,
            _opened(temporary.parent) as target_parent,
        ):
            copying.entry(source_parent, source.name, target_parent, temporary.name, "")
        return CopyReport(files=copying.files, size=copying.size, shared=copying.shared)


def can_share(source: Path, directory: Path) -> bool:
    """Return whether files of *source* can be cloned into *directory* (FICLONE); this is tried with one file."""
    file = next((path for path in source.iterdir() if path.is_file() and not path.is_symlink()), None)
    if file is None or not directory.is_dir() or sys.platform != "linux":
        return False
    try:
        with fs.open_regular(file) as reader, tempfile.TemporaryFile(dir=directory) as writer:
            ioctl(writer.fileno(), FICLONE, reader.fileno())
    except OSError:
        return False
    return True


@dataclass(slots=True)
class _Copying:
    """A copy in progress."""

    pool: ThreadPoolExecutor
    skip: Skip
    vanishing: bool = field(kw_only=True)
    progress: Callable[[int], None] | None = field(kw_only=True)
    follow: FileFollower = field(kw_only=True)
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
                self._copy_metadata(copy, status)
                os.fsync(copy)
        elif stat.S_ISREG(status.st_mode):
            self._count(self._file(source, name, target, new_name, path or "."))
        elif stat.S_ISLNK(status.st_mode):
            os.symlink(os.readlink(name, dir_fd=source), new_name, dir_fd=target)

    def _directory(self, source: int, target: int, path: str) -> None:
        """Copy the content of *source*: files in the workers, other entries in this thread."""
        files: list[str] = []
        others: list[str] = []
        with os.scandir(source) as entries:
            for entry in entries:
                if not self.skip(f"{path}{entry.name}"):
                    (files if entry.is_file(follow_symlinks=False) else others).append(entry.name)
        self._files(sorted(files), source, target, path)
        for name in sorted(others):
            with self._ignoring_vanished():
                self.entry(source, name, target, name, f"{path}{name}/")

    def _files(self, names: list[str], source: int, target: int, path: str) -> None:
        futures = [self.pool.submit(self._file, source, name, target, name, f"{path}{name}") for name in names]
        try:
            for future in futures:
                self._count(future.result())
        except BaseException:
            for future in futures:
                future.cancel()
            wait(futures)  # running workers use the directories' descriptors, which the caller closes
            raise

    def _file(self, source: int, name: str, target: int, new_name: str, path: str) -> tuple[int, bool] | None:
        """Copy a regular file; return its size and whether blocks are shared, None if it is gone."""
        try:
            reader = fs.open_descriptor(name, dir_fd=source)
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
                self._copy_metadata(writer, os.fstat(reader))
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
            if error.errno not in fs.UNSUPPORTED:
                raise
            self.may_share = False
            return False
        return True

    def _copy_metadata(self, descriptor: int, status: os.stat_result) -> None:
        """Set the mode and times of the copy to those of *status*."""
        os.fchmod(descriptor, stat.S_IMODE(status.st_mode))
        os.utime(descriptor, ns=(status.st_atime_ns, status.st_mtime_ns))

    def _count(self, result: tuple[int, bool] | None) -> None:
        if result is None:
            return
        self.files += 1
        self.size += result[0]
        self.shared += result[1]
        if self.progress is not None:
            self.progress(self.size)

    @contextmanager
    def _ignoring_vanished(self) -> Iterator[None]:
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


def _ignore_size(_size: int) -> None:
    """Do nothing."""


def _copy_content(reader: int, writer: int, grown: SizeCallback) -> None:
    """Copy all data and preserve holes; the copy gets the source's length at the end."""
    position, size = 0, os.fstat(reader).st_size
    while position < size:
        start, end = _next_data(reader, position, size)
        fs.copy_range(reader, writer, start, end, grown)
        position, size = end, os.fstat(reader).st_size  # the file may have grown
    os.ftruncate(writer, size)


def _next_data(reader: int, position: int, size: int) -> tuple[int, int]:
    """Return start and end of the next data from *position* on; *size* twice if only a hole follows."""
    if not hasattr(os, "SEEK_DATA"):
        return position, size
    try:
        start = os.lseek(reader, position, os.SEEK_DATA)
        return start, os.lseek(reader, start, os.SEEK_HOLE)
    except OSError as error:
        if error.errno == errno.ENXIO:
            return size, size
        if error.errno in fs.UNSUPPORTED:
            return position, size
        raise


def report_progress(report: Reporter) -> Callable[[int], None]:
    """Return a callback that reports the progress of a copy once for every 64 MB."""
    step, last = 64 * 1024 * 1024, 0

    def emit(done: int) -> None:
        nonlocal last
        if done - last >= step:
            last = done
            report.begin(f"Copying: {done // 1024**2} MB")

    return emit
