"""Commands in namespaces of their own, for root and for ordinary users alike."""

from __future__ import annotations

import os

#: An ordinary user has the right to make others in a user namespace only, in which it keeps its user id.
BY_USER = ("--user", "--map-current-user", "--keep-caps")
WITHOUT_RIGHTS = "setpriv --inh-caps=-all --ambient-caps=-all"


def in_namespaces(*kinds: str, script: str, argument: str = "sh") -> tuple[str, ...]:
    """Return the words before a command with which it runs in new namespaces that *script* has prepared.

    *kinds* are options of unshare(1), such as ``--net``; *script* is for sh, and *argument* is its ``$0``. The command
    has no other rights than the caller.
    """
    root = os.geteuid() == 0
    words = ("unshare", *(() if root else BY_USER), *kinds)
    return (*words, "sh", "-c", f'{script}\nexec {"" if root else WITHOUT_RIGHTS} "$@"', argument)
