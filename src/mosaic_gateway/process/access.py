"""Permissions of an account on files, computed from modes and owners without running a process as the account."""

from __future__ import annotations

import os
import stat
import sys
from pathlib import Path

from mosaic_gateway.process.account import Account

__all__ = ["closed_part", "interpreter", "interpreter_closed_to", "unreadable_part"]

READ, PASS = stat.S_IROTH, stat.S_IXOTH
USER, GROUP = 6, 3  # bit offsets of the owner's and the group's permissions


def closed_part(path: Path, account: Account | None) -> Path | None:
    """Return the first component of *path* that *account* has no permission to search or execute, if any.

    *account* is None for one that does not exist yet. Considers modes, owners and the account's primary group, and
    skips missing components. Raises OSError.
    """
    parts = (*reversed(path.parents), path)
    return next((part for part in parts if part.exists() and not _may(part, account, PASS)), None)


def unreadable_part(account: Account) -> Path | None:
    """Return a directory or module file that *account* cannot read and this program imports, if any.

    Checks the directories of ``sys.path`` and all loaded modules. Raises OSError.
    """
    files = {Path(file) for module in list(sys.modules.values()) if (file := getattr(module, "__file__", None))}
    directories = {Path(entry) for entry in sys.path} | {file.parent for file in files}
    for directory in sorted(directories):
        closed = closed_part(directory, account)
        if closed is not None:
            return closed
    existing = sorted(path for path in files | directories if path.exists())
    return next((path for path in existing if not _may(path, account, READ)), None)


def _may(part: Path, account: Account | None, right: int) -> bool:
    """Return whether *account* has the permission *right* on *part*, given as a bit for others (S_IROTH, S_IXOTH)."""
    status = part.stat()
    if account is not None and status.st_uid == account.uid:
        return bool(status.st_mode & right << USER)
    if account is not None and status.st_gid == account.gid:
        return bool(status.st_mode & right << GROUP)
    return bool(status.st_mode & right)


def interpreter() -> Path:
    """Return the base interpreter, outside any virtual environment."""
    return Path(getattr(sys, "_base_executable", "") or sys.executable).resolve()


def interpreter_closed_to(account: Account | None) -> Path | None:
    """Return the path that denies *account* (None: one that does not exist yet) the use of the interpreter, if any."""
    for path in (interpreter(), Path(os.__file__).resolve().parent):
        closed = closed_part(path, account)
        if closed is not None:
            return closed
    return None
