"""Disk-space checks, and the many errors of a full disk translated into `DiskFullError`."""

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

__all__ = ["check_room", "full_disk_named", "is_full_disk", "size_of"]

RESERVE = 64 * 1024 * 1024  # bytes that stay free: the database beside it must be able to write on
#: How messages name a full disk or an exhausted quota: strerror(3) of PostgreSQL and its programs, codes of Node.js.
NO_SPACE = ("No space left on device", "ENOSPC", "Disk quota exceeded", "EDQUOT")
SQLSTATE = "53100"  # disk_full: PostgreSQL's manual, appendix A
MB = 1024 * 1024


def size_of(paths: Iterable[Path]) -> int:
    """Return the bytes that the regular files below *paths* take on the disk; what vanishes does not count."""
    return sum(_blocks(path) for top in paths for path in _files(top))


def check_room(place: Path, needed: int, what: str) -> None:
    """Raise `DiskFullError` where the file system of *place* has not *needed* bytes free and a reserve."""
    existing = next(path for path in (place, *place.parents) if path.exists())
    free = shutil.disk_usage(existing).free
    if free < needed + RESERVE:
        raise DiskFullError(
            f"{what} needs {(needed + RESERVE) // MB} MB in {place}; {free // MB} MB are free",
            hint="Make room there, or name another place with --to. Nothing was changed.",
            details={"free_bytes": free, "needed_bytes": needed + RESERVE},
        )


@contextmanager
def full_disk_named(place: Path, what: str) -> Iterator[None]:
    """Raise `DiskFullError` for an error of the block that a full disk caused; *what* was written into *place*.

    An error of a server or of a gateway that was started keeps its message: the full disk may be another one.
    """
    try:
        yield
    except DiskFullError:
        raise
    except (OSError, CommandFailedError) as error:
        if not is_full_disk(error):
            raise
        raise DiskFullError(
            f"{what}: there was no room left in {place}; what was begun has been removed",
            hint="Make room there, then run the command again.",
        ) from error
    except Exception as error:
        if not is_full_disk(error):
            raise
        raise DiskFullError(
            f"{what}: there was no room left: {error}",
            hint="Make room there, then run the command again.",
            details=error.details if isinstance(error, MosaicError) else None,
        ) from error


def is_full_disk(error: BaseException) -> bool:
    """Return whether *error*, or one that it was raised from, says that a disk is full."""
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
