"""What an account may enter, run and read, by modes and owners: root asks without a process of the account's."""

from __future__ import annotations

import os
import stat
import sys
from pathlib import Path

from mosaic_gateway.process.account import Account

__all__ = ["closed_part", "interpreter", "interpreter_closed_to", "unreadable_part"]

READ, PASS = stat.S_IROTH, stat.S_IXOTH
USER, GROUP = 6, 3  # by how many bits an owner's and a group's rights lie above those of all others


def closed_part(path: Path, account: Account | None) -> Path | None:
    """Return the part of *path* that *account* (None: one yet to be made) may not enter or run, if any.

    By modes, owners and the account's primary group. What is not there is not looked at. Raises OSError.
    """
    parts = (*reversed(path.parents), path)
    return next((part for part in parts if part.exists() and not _may(part, account, PASS)), None)


def unreadable_part(account: Account) -> Path | None:
    """Return what keeps *account* from importing what we import: a directory, or the file of a module, if any.

    Looks at the directories of ``sys.path`` and at every module that is loaded. Raises OSError.
    """
    files = {Path(file) for module in list(sys.modules.values()) if (file := getattr(module, "__file__", None))}
    directories = {Path(place) for place in sys.path} | {file.parent for file in files}
    for directory in sorted(directories):
        closed = closed_part(directory, account)
        if closed is not None:
            return closed
    there = sorted(path for path in files | directories if path.exists())
    return next((path for path in there if not _may(path, account, READ)), None)


def _may(part: Path, account: Account | None, right: int) -> bool:
    """Return whether *account* has *right*, a bit of those of all others (stat(2)), on *part*."""
    status = part.stat()
    if account is not None and status.st_uid == account.uid:
        return bool(status.st_mode & right << USER)
    if account is not None and status.st_gid == account.gid:
        return bool(status.st_mode & right << GROUP)
    return bool(status.st_mode & right)


def interpreter() -> Path:
    """Return the interpreter beneath any virtual environment."""
    return Path(getattr(sys, "_base_executable", "") or sys.executable).resolve()


def interpreter_closed_to(account: Account | None) -> Path | None:
    """Return the directory or file that keeps *account* (None: one yet to be made) from the interpreter, if any."""
    for path in (interpreter(), Path(os.__file__).resolve().parent):
        closed = closed_part(path, account)
        if closed is not None:
            return closed
    return None
