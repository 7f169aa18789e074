"""Drops root privileges, and filters root's environment for a process of another account."""

from __future__ import annotations

import ctypes
import os
import sys
from collections.abc import Mapping

from mosaic_gateway.process.account import Account

__all__ = ["account_environment", "drop_root"]

#: Variables that are passed on: program search path, locale and terminal, proxies, and settings of mosaic-gateway.
ALLOWED = frozenset(
    {"PATH", "LANG", "LANGUAGE", "TZ", "TERM", "COLUMNS", "LINES", "NO_COLOR", "DATABASE_URL", "BETTER_AUTH_SECRET"}
    | {"http_proxy", "https_proxy", "no_proxy", "HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY"}
)
JOIN_SESSION_KEYRING = 1  # <linux/keyctl.h>
PR_SET_DUMPABLE = 4  # <linux/prctl.h>
CAPABILITY_VERSION_3 = 0x20080522  # <linux/capability.h>
ALLOWED_PREFIXES = ("LC_", "MOSAIC_GATEWAY_")


def account_environment(environ: Mapping[str, str], account: Account) -> dict[str, str]:
    """Return the environment for a process of *account*: the allowed variables of *environ* (root's). Pure."""
    passed = {name: value for name, value in environ.items() if name in ALLOWED or name.startswith(ALLOWED_PREFIXES)}
    return {**passed, "HOME": account.directory, "USER": account.name, "LOGNAME": account.name, "SHELL": "/bin/sh"}


def drop_root(account: Account, environ: Mapping[str, str]) -> None:
    """Switch this process to *account*: real, effective and saved ids, groups, and *environ* as the environment.

    This is irrevocable. The change of ids clears the parent-death signal (prctl(2)). PR_SET_DUMPABLE denies other
    processes of the account access to this one's memory, which was root's, whatever the value of fs.suid_dumpable.
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
    """Drop all capabilities (capset(2)): setuid may preserve them (securebits, capabilities(7). Raises OSError."""
    header = (ctypes.c_uint32 * 2)(CAPABILITY_VERSION_3, 0)
    if libc.capset(header, (ctypes.c_uint32 * 6)()) != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))


def _leave_keyring() -> None:
    """Join a new session keyring, because root's may contain keys (keyctl(2)). Does nothing without kernel support."""
    number = {"x86_64": 250, "aarch64": 219}.get(os.uname().machine)
    if sys.platform.startswith("linux") and number is not None:
        ctypes.CDLL(None).syscall(ctypes.c_long(number), ctypes.c_long(JOIN_SESSION_KEYRING), None)


def _groups(account: Account) -> list[int]:
    try:
        return os.getgrouplist(account.name, account.gid)
    except OSError:  # more groups than the system supports
        return [account.gid]
