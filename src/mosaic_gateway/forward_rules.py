"""Rules of forward authentication: which people may send which requests to the services behind a reverse proxy.

The first rule that matches host and path of a request decides; a request without a rule needs a signed-in user.
Servers read unusual paths differently (encoded slashes, dot segments, parameters, upper case). Therefore a path is
judged in every reading, and refused if two readings lead to different rules.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from mosaic_gateway.web_origin import parse_authority

__all__ = [
    "PUBLIC",
    "SIGNED_IN",
    "TOKEN",
    "AmbiguousPathError",
    "ForwardRule",
    "ForwardSettings",
    "find_rule",
    "parse_forward",
]

PUBLIC: Final = "public"
SIGNED_IN: Final = "signed-in"
TOKEN: Final = "token"  # noqa: S105 - the name of a permission
ROLE: Final = "role:"
ALLOW = re.compile(r"public|signed-in|token|role:[^\s,]+")
PATH = re.compile(r"/[^\x00-\x20\x7f*?#;\\%]*\*?")
NAME = re.compile(r"[^\x00-\x1f\x7f-\x9f\ud800-\udfff]{1,80}")
KEYS: Mapping[str, bool] = {"host": True, "path": False, "allow": True, "name": False}  # key -> required
USERS = ("id", "email")
EXAMPLE = 'host = "grafana.example.com", path = "/*", allow = "signed-in"'


class AmbiguousPathError(ValueError):
    """Servers would read the path differently, and the rules decide differently on the readings."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ForwardRule:
    """``allow`` decides on requests to ``host`` and ``path``.

    ``host`` is a name in lower case, or ``*.`` and a name for every subdomain. ``path`` is exact (with or without a
    slash at its end), or ends in ``/*`` for the path and everything below it. ``allow`` is ``public``, ``signed-in``,
    ``token`` (an API token, or a signed-in user) or ``role:`` and the name of a role. A rule with a ``name`` is listed
    on the console as a service.
    """

    host: str
    path: str = "/*"
    allow: str = SIGNED_IN
    name: str | None = None

    @property
    def role(self) -> str | None:
        """The role that is needed, if any."""
        return self.allow.removeprefix(ROLE) if self.allow.startswith(ROLE) else None

    def __str__(self) -> str:
        return f"{self.host}{self.path} {self.allow}" + (f" ({self.name})" if self.name else "")

    def permits(self, roles: Iterable[str]) -> bool:
        """Return whether a signed-in user with *roles* may send the request."""
        return self.role is None or self.role in roles

    def url(self, scheme: str) -> str:
        """Return the address of the service, for a link."""
        return f"{scheme}://{self.host}{self.path.removesuffix('*')}"

    def matches_host(self, host: str) -> bool:
        """Return whether the rule is about *host*, a name in lower case without port."""
        return host.endswith(self.host[1:]) if self.host.startswith("*") else host == self.host

    def matches_path(self, path: str, *, any_case: bool = False) -> bool:
        """Return whether the rule is about *path*, in which nothing is encoded; with *any_case* ignore the case."""
        pattern, path = (self.path.casefold(), path.casefold()) if any_case else (self.path, path)
        if pattern.endswith("/*"):
            return path.startswith(pattern[:-1]) or path == pattern[:-2]
        return path.rstrip("/") == pattern.rstrip("/")

    def covers(self, other: ForwardRule) -> bool:
        """Return whether every request that *other* matches is matched by this rule."""
        hosts = self.matches_host(other.host.removeprefix("*") if self.host.startswith("*") else other.host)
        below = other.path.endswith("/*")
        return hosts and (self.path.endswith("/*") or not below) and self.matches_path(other.path.removesuffix("*"))


DEFAULT = ForwardRule(host="*")


@dataclass(frozen=True, slots=True)
class ForwardSettings:
    """The table ``[forward]`` of the settings file. ``user`` is what Remote-User contains: ``id`` or ``email``."""

    rules: tuple[ForwardRule, ...] = ()
    user: str = "id"


def find_rule(rules: Sequence[ForwardRule], host: str, readings: Iterable[str]) -> ForwardRule:
    """Return the first of *rules* that matches; without one, a rule that asks for a signed-in user.

    *readings* are the path as different servers read it. Raises `AmbiguousPathError`.
    """
    candidates = [rule for rule in rules if rule.matches_host(host)]
    found = {
        next((rule for rule in candidates if rule.matches_path(path, any_case=any_case)), DEFAULT)
        for path in readings
        for any_case in (False, True)
    }
    if len({rule.allow for rule in found}) > 1:
        raise AmbiguousPathError
    return found.pop()


def parse_forward(value: Any) -> ForwardSettings:
    """Return the settings from *value*. Raises ValueError with the position and the fault of the first invalid rule."""
    if not isinstance(value, dict) or not isinstance(stored := value.get("rules", []), list):
        raise ValueError("write each rule as a table [[forward.rules]]")  # noqa: TRY004 - one class for all faults
    if unknown := sorted(set(value) - {"rules", "user"}):
        raise ValueError(f"unknown: {', '.join(unknown)}; known are rules and user")
    if (user := value.get("user", USERS[0])) not in USERS:
        raise ValueError(f"user must be one of {', '.join(USERS)}, not {user!r}")
    rules: list[ForwardRule] = []
    for number, table in enumerate(stored, 1):
        try:
            rule = _rule(table)
            _check_reached(rule, rules)
        except ValueError as error:
            raise ValueError(f"rule {number} of [[forward.rules]]: {error}") from error
        rules.append(rule)
    return ForwardSettings(tuple(rules), user)


def _rule(table: Any) -> ForwardRule:
    if not isinstance(table, dict):
        raise ValueError(f"it must be a table such as {EXAMPLE}")  # noqa: TRY004 - one class for all faults
    if unknown := sorted(set(table) - set(KEYS)):
        raise ValueError(f"unknown: {', '.join(unknown)}; known are {', '.join(KEYS)}")
    if missing := [key for key, required in KEYS.items() if required and key not in table]:
        raise ValueError(f"{', '.join(missing)} is missing")
    if not_text := [key for key, text in table.items() if not isinstance(text, str)]:
        raise ValueError(f"{', '.join(not_text)} must be a text")
    rule = ForwardRule(**{**table, "host": table["host"].lower()})
    if parse_authority(rule.host.removeprefix("*.")) != (rule.host.removeprefix("*."), None):
        raise ValueError(f"host must be a name without port, such as grafana.example.com, not {rule.host!r}")
    if not PATH.fullmatch(rule.path) or (rule.path.endswith("*") and not rule.path.endswith("/*")):
        raise ValueError(f"path must begin with /, not be encoded, and have * only as /* at its end, not {rule.path!r}")
    if {"", ".", ".."} & set(rule.path[1:].rstrip("/").split("/")) and rule.path != "/":
        raise ValueError(f"path must have no empty part, . or .. in it: {rule.path!r}")
    if not ALLOW.fullmatch(rule.allow):
        raise ValueError(f"allow must be public, signed-in, token or role:NAME, not {rule.allow!r}")
    if rule.name is not None and (not NAME.fullmatch(rule.name) or rule.host.startswith("*")):
        raise ValueError("name must have at most 80 characters, and host must be one host, which the name is a link to")
    return rule


def _check_reached(rule: ForwardRule, earlier: Sequence[ForwardRule]) -> None:
    for number, one in enumerate(earlier, 1):
        if one.covers(rule):
            raise ValueError(f"rule {number} decides on all its requests, and the first rule that matches counts")
