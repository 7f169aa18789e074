"""The directory of the server's socket: in the home, or a short private directory if the path is too long."""

from __future__ import annotations

import hashlib
import os
import stat
import sys
from contextlib import suppress
from pathlib import Path

from mosaic_gateway.engines.base import EngineStartError
from mosaic_gateway.engines.postgres.configuration import PORT
from mosaic_gateway.fs.files import make_directory
from mosaic_gateway.installation.layout import Home

__all__ = ["FALLBACK", "outside_directories", "socket_directory", "socket_path", "socket_place"]

#: Longest path of a socket in bytes: ``sun_path`` without its final NUL.
LONGEST = 103 if sys.platform == "darwin" else 107
FALLBACK = Path("/tmp")  # noqa: S108 - directories created there are checked


def socket_path(directory: Path) -> Path:
    """Return the path of the server's socket in *directory*."""
    return directory / f".s.PGSQL.{PORT}"


def socket_directory(home: Home, runtime_directory: Path) -> Path:
    """Create the directory of the home's socket if necessary, check that it is private, and return it.

    It is ``<home>/run``, or ``mosaic-<hash>`` in *runtime_directory* (else ``/tmp``) if the path would be
    too long or contain a comma, which separates hosts in a conninfo. Raises EngineStartError, OSError.
    """
    directory = socket_place(home, runtime_directory)
    if directory == home.run:
        make_directory(directory)
    else:
        _create_private(directory)
    return directory


def socket_place(home: Home, runtime_directory: Path) -> Path:
    """Return the path that `socket_directory` uses, without creating it. Raises EngineStartError."""
    if _fits(home.run):
        return home.run
    for parent in (runtime_directory, FALLBACK):
        directory = parent / _outside_name(home)
        if _fits(directory) and parent.is_dir():
            return directory
    raise EngineStartError(
        f"The path of the socket is too long for every directory, including {FALLBACK}", hint="Choose a shorter --home."
    )


def outside_directories(home: Home, runtime_directory: Path) -> list[Path]:
    """Return the directories that `socket_directory` created outside of *home* and that the home's owner owns."""
    owner = home.path.stat().st_uid
    directories = []
    for directory in {parent / _outside_name(home) for parent in (runtime_directory, FALLBACK)}:
        with suppress(FileNotFoundError):
            status = directory.lstat()
            if stat.S_ISDIR(status.st_mode) and status.st_uid == owner:
                directories.append(directory)
    return directories


def _outside_name(home: Home) -> str:
    return f"mosaic-{hashlib.sha256(os.fsencode(home.path.resolve())).hexdigest()[:8]}"


def _fits(directory: Path) -> bool:
    path = os.fsencode(socket_path(directory))
    return len(path) <= LONGEST and b"," not in path


def _create_private(directory: Path) -> None:
    """Create *directory*; refuse one that another user created, because all users can write to its parent."""
    make_directory(directory)
    status = directory.lstat()
    owner = os.geteuid()
    if not stat.S_ISDIR(status.st_mode) or status.st_uid != owner or status.st_mode & 0o077:
        raise EngineStartError(
            f"{directory} is not a private directory of user id {owner}",
            hint="Remove it, or choose a --home with a shorter path.",
        )
