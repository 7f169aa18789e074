"""Root's rights given up for good, and what of root's environment an account's process may have."""

from __future__ import annotations

import ctypes
import os
import sys
from collections.abc import Mapping

from mosaic_gateway.process.account import Account

__all__ = ["account_environment", "drop_root"]

#: What is passed on: where programs are, how texts are shown, how the network is reached, and our own settings.
ALLOWED = frozenset(
    {"PATH", "LANG", "LANGUAGE", "TZ", "TERM", "COLUMNS", "LINES", "NO_COLOR", "DATABASE_URL", "BETTER_AUTH_SECRET"}
    | {"http_proxy", "https_proxy", "no_proxy", "HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY"}
)
JOIN_SESSION_KEYRING = 1  # <linux/keyctl.h>
PR_SET_DUMPABLE = 4  # <linux/prctl.h>
CAPABILITY_VERSION_3 = 0x20080522  # <linux/capability.h>
ALLOWED_PREFIXES = ("LC_", "MOSAIC_GATEWAY_")


def account_environment(environ: Mapping[str, str], account: Account) -> dict[str, str]:
    """Return the environment of a process of *account*: of root's *environ* only what is allowed. Pure."""
    passed = {name: value for name, value in environ.items() if name in ALLOWED or name.startswith(ALLOWED_PREFIXES)}
    return {**passed, "HOME": account.directory, "USER": account.name, "LOGNAME": account.name, "SHELL": "/bin/sh"}


def drop_root(account: Account, environ: Mapping[str, str]) -> None:
    """Become *account*: real, effective and saved ids, its groups, and *environ* as the environment.

    There is no way back. The kernel forgets a parent-death signal with the ids (prctl(2)), and keeps other processes
    of the account from reading this one's memory, which was root's (PR_SET_DUMPABLE), whatever fs.suid_dumpable says.
    """
    os.environ.clear()
    os.environ.update(environ)
    _leave_keyring()
    os.setgroups(_groups(account))
    os.setresgid(account.gid, account.gid, account.gid)
    os.setresuid(account.uid, account.uid, account.uid)
    if sys.platform.startswith("linux"):
        libc = ctypes.CDLL(None, use_errno=True)
        _drop_capabilities(libc)
        libc.prctl(PR_SET_DUMPABLE, 0, 0, 0, 0)


def _drop_capabilities(libc: ctypes.CDLL) -> None:
    """Keep none (capset(2)); securebits can make the change of ids leave them (capabilities(7)). Raises OSError."""
    header = (ctypes.c_uint32 * 2)(CAPABILITY_VERSION_3, 0)
    if libc.capset(header, (ctypes.c_uint32 * 6)()) != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))


def _leave_keyring() -> None:
    """Take a new session keyring: root's may hold keys (keyctl(2)). Does nothing where the kernel has none."""
    number = {"x86_64": 250, "aarch64": 219}.get(os.uname().machine)
    if sys.platform.startswith("linux") and number is not None:
        ctypes.CDLL(None).syscall(ctypes.c_long(number), ctypes.c_long(JOIN_SESSION_KEYRING), None)


def _groups(account: Account) -> list[int]:
    try:
        return os.getgrouplist(account.name, account.gid)
    except OSError:  # more groups than the system supports
        return [account.gid]
