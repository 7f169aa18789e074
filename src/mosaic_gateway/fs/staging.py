"""Files and directories that appear whole: created under a temporary name beside the target, then renamed to it.

Every temporary has the same form of name, ``.<target>.<8 hexadecimal digits>.tmp``. A process that is killed leaves
nothing else behind, and the next one that holds the lock of the target removes its temporaries.
"""

from __future__ import annotations

import os
import re
import secrets
import shutil
import stat
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext, suppress
from pathlib import Path

__all__ = [
    "TEMPORARY",
    "open_directory_to_owner",
    "remove_temporaries",
    "remove_tree",
    "staged",
    "sync_directory",
    "temporaries",
    "temporary",
    "temporary_sibling",
]

#: The name of a temporary; matches the whole name.
TEMPORARY = re.compile(r"\..+\.[0-9a-f]{8}\.tmp")


def temporary_sibling(target: Path) -> Path:
    """Return a new temporary name beside *target*, on the same file system. Creates nothing."""
    return target.with_name(f".{target.name.lstrip('.')}.{secrets.token_hex(4)}.tmp")


def temporaries(directory: Path, *targets: str) -> tuple[Path, ...]:
    """Return the temporaries in *directory*, by name; none where it does not exist. Raises OSError.

    *targets*: only those of targets whose names begin with one of these words.
    """
    with suppress(FileNotFoundError, NotADirectoryError):
        paths = (path for path in directory.iterdir() if TEMPORARY.fullmatch(path.name))
        return tuple(sorted(path for path in paths if path.name[1:].startswith(targets or "")))
    return ()


def remove_temporaries(directory: Path, *targets: str) -> None:
    """Remove what `temporaries` returns, as far as possible. The caller holds the lock of these *targets*."""
    for path in temporaries(directory, *targets):
        remove_tree(path)


@contextmanager
def temporary(target: Path) -> Iterator[Path]:
    """Yield a temporary name beside *target*; what the block leaves under it is removed."""
    path = temporary_sibling(target)
    try:
        yield path
    finally:
        if os.path.lexists(path):
            remove_tree(path)


@contextmanager
def staged(target: Path, *, replace: bool = False, durable: bool = True) -> Iterator[Path]:
    """Yield a temporary name for the block to create a file or directory at; it becomes *target* after the block.

    If the block fails, what it created is removed and *target* stays as it was. A file replaces a file. With *replace*
    an existing directory is removed once the new one is in its place. *durable*: the rename is on disk before the
    return; the block flushes what it writes. Raises OSError, also where *target* is a directory that is not empty,
    without *replace*.
    """
    with temporary(target) as new, temporary(target) as replaced:
        yield new
        try:
            if replace and os.path.lexists(target):
                target.rename(replaced)
            new.rename(target)
        except BaseException:
            with suppress(OSError):
                replaced.rename(target)
            raise
    if durable:
        sync_directory(target.parent)


def remove_tree(path: Path, *, strict: bool = False) -> None:
    """Remove *path* if it exists, a directory with its content; links are not followed.

    It is removed as far as possible, also from this user's directories that are closed to their owner. Errors are
    ignored; with *strict*, raises OSError.
    """
    with nullcontext() if strict else suppress(OSError):
        if not path.is_dir() or path.is_symlink():
            path.unlink(missing_ok=True)
            return
        shutil.rmtree(path, ignore_errors=True)
        if path.exists():
            _open_directories(path)
            shutil.rmtree(path, ignore_errors=not strict)


def _open_directories(path: Path) -> None:
    """Give this user full permission for the directories that it owns, *path* and below."""
    if os.geteuid() == 0:  # modes do not apply to root
        return
    open_directory_to_owner(path)
    for child in path.iterdir():
        if child.is_dir() and not child.is_symlink():
            with suppress(OSError):
                _open_directories(child)


def open_directory_to_owner(path: Path) -> None:
    """Give this user full permission for the directory *path* if it owns it. Raises OSError."""
    status = path.lstat()
    own = stat.S_ISDIR(status.st_mode) and status.st_uid == os.geteuid()
    if own and status.st_mode & stat.S_IRWXU != stat.S_IRWXU:
        path.chmod(stat.S_IMODE(status.st_mode) | stat.S_IRWXU)


def sync_directory(path: Path) -> None:
    """Flush the entries of the directory *path* to disk. Raises OSError."""
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
