"""User accounts of this machine, the check of a home's owner, and permissions of an account on files.

Permissions are computed from modes and owners, without running a process as the account.
"""

from __future__ import annotations

import os
import pwd
import stat
import sys
from dataclasses import dataclass
from pathlib import Path

from mosaic_gateway.errors import PreflightError

__all__ = [
    "UNPRIVILEGED",
    "Account",
    "HomeOwnerError",
    "account_named",
    "account_of",
    "check_owner",
    "closed_part",
    "interpreter",
    "interpreter_closed_to",
    "unreadable_part",
]

READ, PASS = stat.S_IROTH, stat.S_IXOTH
USER, GROUP = 6, 3  # bit offsets of the owner's and the group's permissions


class HomeOwnerError(PreflightError):
    """The home belongs to another user, and this process cannot run as that user."""

    code = "HOME_OWNER"


@dataclass(frozen=True, slots=True, kw_only=True)
class Account:
    """A user account: name, numeric user id, primary group id, home directory, comment."""

    name: str
    uid: int
    gid: int
    directory: str
    comment: str = ""


#: The account without privileges, with the kernel's overflow user id (user_namespaces(7)).
UNPRIVILEGED = Account(name="nobody", uid=65534, gid=65534, directory="/")


def account_named(name: str) -> Account | None:
    """Return the account with the name *name*, or None if the user database has none."""
    try:
        return _account(pwd.getpwnam(name))
    except KeyError:
        return None


def account_of(uid: int) -> Account | None:
    """Return the account with the user id *uid*, or None if the user database has none."""
    try:
        return _account(pwd.getpwuid(uid))
    except KeyError:
        return None


def check_owner(path: Path) -> None:
    """Raise `HomeOwnerError` unless the existing home *path* belongs to this user; OSError from stat."""
    uid = path.stat().st_uid
    if uid == os.geteuid():
        return
    owner = account_of(uid)
    if owner is None:
        raise HomeOwnerError(
            f"{path} belongs to user id {uid}, which has no entry in the user database",
            hint="Change the owner to an existing user (chown -R), or choose another --home.",
        )
    raise HomeOwnerError(
        f"{path} belongs to {owner.name}",
        hint=f"Run the command as {owner.name}{' or as root' if owner.uid else ''}, or choose another --home.",
    )


def _account(entry: pwd.struct_passwd) -> Account:
    return Account(
        name=entry.pw_name, uid=entry.pw_uid, gid=entry.pw_gid, directory=entry.pw_dir, comment=entry.pw_gecos
    )


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
