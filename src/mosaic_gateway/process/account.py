"""As whom things run: the user that owns a home, and acting as that user when we are root.

Theory of operation. PostgreSQL refuses uid 0, so a home that root installs belongs to a service
account. Root then writes into that home only while its *effective* user is the account (`assume`):
a file is born with the right owner, and a link planted by the account leads root nowhere. A process
that serves requests gives root up for good (`become`). Modules must be imported before either,
because the interpreter itself may live where only root can read.
"""

from __future__ import annotations

import os
import pwd
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mosaic_gateway.errors import PreflightError

__all__ = ["Account", "HomeOwnerError", "account_named", "assume", "become", "owner_of", "popen_identity"]


class HomeOwnerError(PreflightError):
    """The home belongs to a user that this process can neither be nor become."""

    code = "HOME_OWNER"


@dataclass(frozen=True, slots=True, kw_only=True)
class Account:
    """A user of this machine: name, numeric user id, primary group id, home directory."""

    name: str
    uid: int
    gid: int
    directory: str


def account_named(name: str) -> Account | None:
    """Return the account called *name*, or None where the machine knows none."""
    try:
        entry = pwd.getpwnam(name)
    except KeyError:
        return None
    return _account(entry)


def owner_of(path: Path) -> Account | None:
    """Return the account to act as for the existing home *path*; None means: as ourselves.

    Raises `HomeOwnerError` where we are neither its owner nor root, and OSError from stat.
    """
    uid = path.stat().st_uid
    if uid == os.geteuid():
        return None
    try:
        entry = pwd.getpwuid(uid)
    except KeyError:
        raise HomeOwnerError(
            f"{path} belongs to user id {uid}, which this machine does not know",
            hint="Give the directory to an existing user (chown -R), or choose another --home.",
        ) from None
    if os.geteuid() != 0:
        raise HomeOwnerError(
            f"{path} belongs to {entry.pw_name}",
            hint=f"Run the command as {entry.pw_name} or as root, or choose another --home.",
        )
    return _account(entry)


@contextmanager
def assume(account: Account | None) -> Iterator[None]:
    """Act as *account* inside the block (effective ids and groups); nothing changes for None.

    Import nothing inside the block. Not for use beside other threads that need root.
    """
    if account is None or os.geteuid() == account.uid:
        yield
        return
    groups, gid = os.getgroups(), os.getegid()
    os.setgroups([account.gid])
    os.setegid(account.gid)
    os.seteuid(account.uid)
    try:
        yield
    finally:
        os.seteuid(0)
        os.setegid(gid)
        os.setgroups(groups)


def become(account: Account | None) -> None:
    """Become *account* for good: real, effective and saved ids. Nothing happens for None.

    ``HOME`` follows (`environment_of`).
    """
    if account is None:
        return
    os.environ.update(environment_of(account))
    os.setgroups([account.gid])
    os.setresgid(account.gid, account.gid, account.gid)
    os.setresuid(account.uid, account.uid, account.uid)


def popen_identity(account: Account | None) -> dict[str, Any]:
    """Return the arguments with which ``subprocess`` starts a program as *account*; none where we are it for good."""
    if account is None or os.getuid() == account.uid:
        return {}
    return {"user": account.uid, "group": account.gid, "extra_groups": [account.gid]}


def environment_of(account: Account | None) -> dict[str, str]:
    """Return the variables that a process of *account* has: libpq looks into ``HOME``, and fails where it may not."""
    if account is None:
        return {}
    return {"HOME": account.directory, "USER": account.name, "LOGNAME": account.name}


def _account(entry: pwd.struct_passwd) -> Account:
    return Account(name=entry.pw_name, uid=entry.pw_uid, gid=entry.pw_gid, directory=entry.pw_dir)
