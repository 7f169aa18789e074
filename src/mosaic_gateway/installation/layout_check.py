"""Checks that the directories of a home are directories and its lock files are regular files.

A verb that writes or removes below a symbolic link would change files outside the home. Therefore a verb that changes
a home, or starts a process in it, runs these checks first. The path of the home itself may contain links.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Callable
from pathlib import Path

from mosaic_gateway.errors import RefusedError
from mosaic_gateway.hint import command
from mosaic_gateway.installation.layout import Home

__all__ = ["HomeLayoutError", "check_layout", "check_run_directory"]


class HomeLayoutError(RefusedError):
    """A directory or lock file of the home is of another file type, or its owner has no permission to use it."""

    code = "HOME_LAYOUT"


def check_layout(home: Home) -> None:
    """Raise `HomeLayoutError` if a directory or lock file of *home* exists and is of another file type; OSError."""
    for path in (home.data, home.logs, home.secrets, *(home.path / name for name in ("backups", "bin", "runtime"))):
        _check(path, stat.S_ISDIR, stat.S_IRWXU, "directory")
    _check_file(home.lock)
    check_run_directory(home)


def check_run_directory(home: Home) -> None:
    """Do as `check_layout` for the directory that says what runs. Raises `HomeLayoutError`, OSError."""
    _check(home.run, stat.S_ISDIR, stat.S_IRWXU, "directory")
    for path in home.run.glob("*.lock"):
        _check_file(path)


def _check_file(path: Path) -> None:
    _check(path, stat.S_ISREG, stat.S_IRUSR | stat.S_IWUSR, "regular file")


def _check(path: Path, fits: Callable[[int], bool], needed: int, kind: str) -> None:
    try:
        status = path.lstat()
    except (FileNotFoundError, NotADirectoryError):
        return
    if not fits(status.st_mode):
        actual = "is a symbolic link" if stat.S_ISLNK(status.st_mode) else "is of another type"
        raise HomeLayoutError(
            f"{path} must be a {kind}, but {actual}",
            hint="Nothing was changed. Replace a link by its target directory, or by a bind mount (mount --bind)."
            if kind == "directory"
            else "Nothing was changed. Remove it; it is created again.",
            details={"path": str(path)},
        )
    if status.st_uid == os.geteuid() != 0 and status.st_mode & needed != needed:
        raise HomeLayoutError(
            f"{path} is not accessible to its owner (mode {stat.S_IMODE(status.st_mode):04o})",
            hint="Set the modes: " + command("doctor", "--fix"),
            details={"path": str(path)},
        )
