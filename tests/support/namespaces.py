"""Runs commands in new namespaces, as root or as an ordinary user."""

from __future__ import annotations

import os

#: An ordinary user may create other namespaces only within a new user namespace; its user id is mapped to itself.
BY_USER = ("--user", "--map-current-user", "--keep-caps")
WITHOUT_RIGHTS = "setpriv --inh-caps=-all --ambient-caps=-all"


def in_namespaces(*kinds: str, script: str, argument: str = "sh") -> tuple[str, ...]:
    """Return the prefix for a command that runs it in new namespaces, after *script* has set them up.

    *kinds* are options of unshare(1), such as ``--net``; *script* is run by sh, with *argument* as ``$0``. The command
    has the same privileges as the caller.
    """
    root = os.geteuid() == 0
    words = ("unshare", *(() if root else BY_USER), *kinds)
    return (*words, "sh", "-c", f'{script}\nexec {"" if root else WITHOUT_RIGHTS} "$@"', argument)
