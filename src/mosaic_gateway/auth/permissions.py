"""Roles and what they permit: the default access control of better-auth's admin plugin.

A user's ``role`` is one name or several joined with commas; other names than ``admin`` and ``user`` permit nothing
here, but a service behind forward authentication may use them as groups.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

__all__ = ["ADMIN", "has_permission", "is_role"]

ADMIN = "admin"
DEFAULT = "user"
#: better-auth's ``adminAc``; every other role has no permission.
STATEMENTS: Mapping[str, frozenset[str]] = {
    "user": frozenset((
        "create", "list", "set-role", "ban", "impersonate", "delete", "set-password", "set-email", "set-phone", "get",
        "update",
    )),
    "session": frozenset(("list", "revoke", "delete")),
}  # fmt: skip
ROLE = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.:-]{0,63}")


def has_permission(role: str | None, permissions: Mapping[str, Sequence[str]]) -> bool:
    """Return whether *role* has all *permissions* (resource -> actions); an empty list of either is False."""
    return (
        ADMIN in (role or DEFAULT).split(",")
        and bool(permissions)
        and all(
            actions and STATEMENTS.get(resource, frozenset()).issuperset(actions)
            for resource, actions in permissions.items()
        )
    )


def is_role(role: str) -> bool:
    """Return whether *role* may be stored: names of letters, digits and ``_.:-``, joined with commas, or ``''``."""
    return not role or all(ROLE.fullmatch(name) for name in role.split(","))
