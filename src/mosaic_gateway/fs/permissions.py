"""Denied access (EACCES, EPERM, EROFS): the path that denies it, its owner, and the command that grants access."""

from __future__ import annotations

import errno
import os
import pwd
import shlex
import stat
from contextlib import suppress
from pathlib import Path

from mosaic_gateway.errors import RefusedError

__all__ = [
    "NotPermittedError",
    "access_denied",
    "is_denied",
    "not_permitted",
    "owner_name",
    "user_name",
]

DENIED = {errno.EACCES, errno.EPERM, errno.EROFS}


class NotPermittedError(RefusedError):
    """The operating system denied this user an operation that the verb needs (EACCES, EPERM, EROFS)."""

    code = "NOT_PERMITTED"


def is_denied(error: OSError) -> bool:
    """Return whether *error* reports denied access or a read-only file system."""
    return error.errno in DENIED


def not_permitted(error: OSError) -> NotPermittedError:
    """Return the error that names the path which denied the operation of *error*, its owner and what helps."""
    what = f"{error.strerror or error}: {error.filename or ''}".rstrip(": ")
    if error.errno == errno.EROFS:
        return NotPermittedError(what, hint="The file system is mounted read-only. Use another path, or remount it.")
    if not isinstance(error.filename, str | bytes | os.PathLike):
        return NotPermittedError(what, hint=f"Run the command as another user than {user_name(os.geteuid())}.")
    return access_denied(Path(os.fsdecode(error.filename)), what)


def access_denied(path: Path, what: str) -> NotPermittedError:
    """Return the error *what* about the absolute *path*, with the path that denies access and what helps."""
    denying = _denying_path(path)
    try:
        status = denying.lstat()
    except OSError:
        return NotPermittedError(what, hint=f"Run the command as another user than {user_name(os.geteuid())}.")
    user, owner = user_name(os.geteuid()), user_name(status.st_uid)
    whose = f"{denying} is owned by {owner} (mode {stat.S_IMODE(status.st_mode):04o})"
    quoted = shlex.quote(str(denying))
    if status.st_uid == os.geteuid():
        hint = f"Grant yourself access: chmod u+rwX {quoted}"
    elif _is_owned(denying.parent):  # a foreign file in a directory of this user
        hint = f"As root: chown -R {user}: {quoted}"
    else:
        who = f"{owner} or as root" if status.st_uid else owner
        hint = f"Run the command as {who}, or use a path that {user} can access."
    return NotPermittedError(f"{what}; {whose}", hint=hint, details={"path": str(denying), "owner": owner})


def _denying_path(path: Path) -> Path:
    """Return the first directory on the way to *path* that this user cannot search, else *path* or its directory."""
    for parent in reversed(path.parents):
        if not os.access(parent, os.X_OK):
            return parent
    needed = os.R_OK | os.W_OK | (os.X_OK if os.path.isdir(path) else 0)  # noqa: PTH112 - Path.is_dir raises where a link leads to what is closed
    if os.path.lexists(path) and not os.access(path, needed):
        return path
    return path if os.access(path.parent, os.W_OK) else path.parent


def owner_name(path: Path) -> str:
    """Return the name of the user who owns *path*, or the user id if the user database has no entry for it."""
    with suppress(OSError):
        return user_name(path.lstat().st_uid)
    return "an unknown user"


def user_name(uid: int) -> str:
    """Return the name of the user *uid*, else ``user id N``."""
    with suppress(KeyError):
        return pwd.getpwuid(uid).pw_name
    return f"user id {uid}"


def _is_owned(directory: Path) -> bool:
    with suppress(OSError):
        return directory.stat().st_uid == os.geteuid()
    return False
