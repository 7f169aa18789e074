"""The users of this machine, and whether a home is ours to work in."""

from __future__ import annotations

import os
import pwd
from dataclasses import dataclass
from pathlib import Path

from mosaic_gateway.errors import PreflightError

__all__ = ["NOBODY", "Account", "HomeOwnerError", "account_named", "account_of", "check_owner"]


class HomeOwnerError(PreflightError):
    """The home belongs to a user that this process can neither be nor become."""

    code = "HOME_OWNER"


@dataclass(frozen=True, slots=True, kw_only=True)
class Account:
    """A user of this machine: name, numeric user id, primary group id, home directory, comment."""

    name: str
    uid: int
    gid: int
    directory: str
    comment: str = ""


#: A user without any rights, by the number that the kernel has for it (user_namespaces(7), overflow ids).
NOBODY = Account(name="nobody", uid=65534, gid=65534, directory="/")


def account_named(name: str) -> Account | None:
    """Return the account called *name*, or None where the machine knows none."""
    try:
        return _account(pwd.getpwnam(name))
    except KeyError:
        return None


def account_of(uid: int) -> Account | None:
    """Return the account with the user id *uid*, or None where the machine knows none."""
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
            f"{path} belongs to user id {uid}, which this machine does not know",
            hint="Give the directory to an existing user (chown -R), or choose another --home.",
        )
    raise HomeOwnerError(
        f"{path} belongs to {owner.name}",
        hint=f"Run the command as {owner.name} or as root, or choose another --home.",
    )


def _account(entry: pwd.struct_passwd) -> Account:
    return Account(
        name=entry.pw_name, uid=entry.pw_uid, gid=entry.pw_gid, directory=entry.pw_dir, comment=entry.pw_gecos
    )
