"""Disk-space checks before a copy."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterable, Iterator
from pathlib import Path

from mosaic_gateway.process import DiskFullError

__all__ = ["check_free_space", "size_of"]

RESERVE = 64 * 1024 * 1024  # bytes that stay free for the running database
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
