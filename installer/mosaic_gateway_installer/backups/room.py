"""Is there room, and does a full disk say so plainly?"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from mosaic_gateway.engines.base import DiskFullError
from mosaic_gateway.engines.postgres.runtime import FULL_DISK
from mosaic_gateway.process.command import CommandFailedError

__all__ = ["check_room", "full_disk_named", "size_of"]

RESERVE = 64 * 1024 * 1024  # bytes that stay free: the database beside it must be able to write on
NO_SPACE = "No space left on device"
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
    """Turn the many ways in which a full disk shows inside the block into `DiskFullError`."""
    try:
        yield
    except OSError as error:
        if error.errno in FULL_DISK:
            raise _full(place, what) from error
        raise
    except CommandFailedError as error:
        if NO_SPACE in error.message:
            raise _full(place, what) from error
        raise


def _full(place: Path, what: str) -> DiskFullError:
    return DiskFullError(
        f"{what}: there was no room left in {place}; what was begun has been removed",
        hint="Make room there, then run the command again.",
    )


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
