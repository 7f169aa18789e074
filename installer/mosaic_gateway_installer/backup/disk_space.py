"""Disk-space checks, and translation of ENOSPC and EDQUOT in all their forms into `DiskFullError`."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from mosaic_gateway.engines.base import DiskFullError
from mosaic_gateway.engines.postgres.runtime import FULL_DISK
from mosaic_gateway.errors import MosaicError
from mosaic_gateway.process.command import CommandFailedError

__all__ = ["check_free_space", "is_full_disk", "size_of", "translate_full_disk"]

RESERVE = 64 * 1024 * 1024  # bytes that stay free for the running database
#: A full disk or an exhausted quota in messages: strerror(3) as in PostgreSQL's programs, error codes of Node.js.
NO_SPACE = ("No space left on device", "ENOSPC", "Disk quota exceeded", "EDQUOT")
SQLSTATE = "53100"  # disk_full: PostgreSQL's manual, appendix A
MB = 1024 * 1024


def size_of(paths: Iterable[Path]) -> int:
    """Return the bytes that the regular files below *paths* occupy on the disk; files that vanish are ignored."""
    return sum(_blocks(path) for top in paths for path in _files(top))


def check_free_space(directory: Path, needed: int, what: str) -> None:
    """Raise `DiskFullError` if the file system of *directory* has less than *needed* bytes and a reserve free."""
    existing = next(path for path in (directory, *directory.parents) if path.exists())
    free = shutil.disk_usage(existing).free
    if free < needed + RESERVE:
        raise DiskFullError(
            f"{what} needs {(needed + RESERVE) // MB} MB in {directory}; {free // MB} MB are free",
            hint="Nothing was changed. Free disk space there, or write backups to another directory with --to DIR.",
            details={"free_bytes": free, "needed_bytes": needed + RESERVE},
        )


@contextmanager
def translate_full_disk(directory: Path, what: str) -> Iterator[None]:
    """Raise `DiskFullError` for an error of the block that a full disk caused; *what* was written into *directory*.

    An error of a server, or of a gateway that was started, retains its message: the full disk may be another one.
    """
    try:
        yield
    except DiskFullError:
        raise
    except (OSError, CommandFailedError) as error:
        if not is_full_disk(error):
            raise
        raise DiskFullError(
            f"{what}: no space left in {directory}; the incomplete files were removed",
            hint="Free disk space there, then run the command again.",
        ) from error
    except Exception as error:
        if not is_full_disk(error):
            raise
        raise DiskFullError(
            f"{what}: no space left on a disk: {error}",
            hint="Free disk space there, then run the command again.",
            details=error.details if isinstance(error, MosaicError) else None,
        ) from error


def is_full_disk(error: BaseException) -> bool:
    """Return whether *error*, or one of its causes, reports a full disk."""
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, OSError) and cause.errno in FULL_DISK:
            return True
        if getattr(cause, "sqlstate", None) == SQLSTATE or any(words in str(cause) for words in NO_SPACE):
            return True
        cause = cause.__cause__
    return False


def _files(top: Path) -> Iterator[Path]:
    if top.is_file():
        yield top
    for root, _, names in os.walk(top):
        yield from (Path(root, name) for name in names)


def _blocks(path: Path) -> int:
    try:
        return path.lstat().st_blocks * 512
    except FileNotFoundError:
        return 0
