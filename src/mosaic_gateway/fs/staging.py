"""Files and directories that appear whole: created under a temporary name beside the target, then renamed to it.

Every temporary has the same form of name, ``.<target>.<8 hexadecimal digits>.tmp``. A process that is killed leaves
nothing else behind, and the next one that locks the directory removes all temporaries in it.
"""

from __future__ import annotations

import os
import re
import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

__all__ = [
    "TEMPORARY",
    "discard",
    "remove_temporaries",
    "remove_tree",
    "staged",
    "sync_directory",
    "temporaries",
    "temporary_sibling",
]

#: The name of a temporary; matches the whole name.
TEMPORARY = re.compile(r"\..+\.[0-9a-f]{8}\.tmp")


def temporary_sibling(target: Path) -> Path:
    """Return a new temporary name beside *target*, on the same file system. Creates nothing."""
    return target.with_name(f".{target.name.lstrip('.')}.{secrets.token_hex(4)}.tmp")


def temporaries(directory: Path) -> tuple[Path, ...]:
    """Return the temporaries in *directory*, by name; none where it does not exist. Raises OSError."""
    with suppress(FileNotFoundError, NotADirectoryError):
        return tuple(sorted(path for path in directory.iterdir() if TEMPORARY.fullmatch(path.name)))
    return ()


def remove_temporaries(directory: Path) -> None:
    """Remove the temporaries in *directory*, as far as possible. The caller holds its lock. Raises OSError."""
    for path in temporaries(directory):
        remove_tree(path)


@contextmanager
def staged(target: Path, *, replace: bool = False, durable: bool = True) -> Iterator[Path]:
    """Yield a temporary name for the block to create a file or directory at; it becomes *target* after the block.

    If the block fails, what it created is removed and *target* stays as it was. With *replace* an existing *target* is
    removed once the new one is in its place. *durable*: the rename is on disk before the return; the block flushes what
    it writes. Raises OSError, also where *target* is a directory that is not empty, without *replace*.
    """
    temporary = temporary_sibling(target)
    replaced = temporary_sibling(target)
    try:
        yield temporary
        if replace and os.path.lexists(target):
            target.rename(replaced)
        temporary.rename(target)
        if durable:
            sync_directory(target.parent)
    finally:
        remove_tree(temporary)
        remove_tree(replaced)


def discard(path: Path) -> None:
    """Remove *path* under a temporary name, so that no process takes a part of it for the whole. Raises OSError."""
    temporary = temporary_sibling(path)
    path.rename(temporary)
    sync_directory(path.parent)
    remove_tree(temporary)


def remove_tree(path: Path) -> None:
    """Remove *path* as far as possible, a directory with its content; links are not followed, errors are ignored."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        with suppress(OSError):
            path.unlink()


def sync_directory(path: Path) -> None:
    """Flush the entries of the directory *path* to disk. Raises OSError."""
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
