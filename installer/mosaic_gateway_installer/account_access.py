"""What an account may enter and run, by modes and owners: asked where the kernel cannot be, as the account."""

from __future__ import annotations

import os
import stat
import sys
from pathlib import Path

from mosaic_gateway.process.account import Account

__all__ = ["closed_part", "interpreter", "interpreter_closed_to"]


def closed_part(path: Path, account: Account | None) -> Path | None:
    """Return the part of *path* that *account* (None: one yet to be made) may not enter or run, if any.

    By modes, owners and the account's primary group. What is not there is not looked at. Raises OSError.
    """
    return next(
        (part for part in (*reversed(path.parents), path) if part.exists() and not _may_pass(part, account)), None
    )


def _may_pass(part: Path, account: Account | None) -> bool:
    status = part.stat()
    if account is not None and status.st_uid == account.uid:
        return bool(status.st_mode & stat.S_IXUSR)
    if account is not None and status.st_gid == account.gid:
        return bool(status.st_mode & stat.S_IXGRP)
    return bool(status.st_mode & stat.S_IXOTH)


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
