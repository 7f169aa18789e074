"""User accounts of this machine, and the check of a home's owner."""

from __future__ import annotations

import os
import pwd
from dataclasses import dataclass
from pathlib import Path

from mosaic_gateway.errors import PreflightError

__all__ = ["UNPRIVILEGED", "Account", "HomeOwnerError", "account_named", "account_of", "check_owner"]


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
        hint=f"Run the command as {owner.name} or as root, or choose another --home.",
    )


def _account(entry: pwd.struct_passwd) -> Account:
    return Account(
        name=entry.pw_name, uid=entry.pw_uid, gid=entry.pw_gid, directory=entry.pw_dir, comment=entry.pw_gecos
    )
