"""Origins, authorities and origin patterns of the web: strict parsing of what browsers and settings contain.

Only canonical text is parsed: what a browser would repair first (backslashes, control characters, user names, numbers
as IPv4 addresses, letters outside of ASCII in a host) is no origin here, so no two parsers can disagree about it.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cached_property
from ipaddress import AddressValueError, IPv4Address, IPv6Address, ip_address

__all__ = ["Origin", "OriginPattern", "is_address", "is_loopback", "parse_authority"]

DEFAULT_PORTS = {"http": 80, "https": 443}
LARGEST_PORT = 65535
_AMBIGUOUS = re.compile(r"[\x00-\x20\x7f-\x9f\\]")
_URL = re.compile(r"(https?)://([^/?#]+)(?:[/?#].*)?", re.IGNORECASE)
_AUTHORITY = re.compile(r"(\[[0-9a-f:.]+\]|[a-z0-9_-]+(?:\.[a-z0-9_-]+)*)(?::([0-9]{1,5}))?", re.IGNORECASE)
_PATTERN = re.compile(r"(?:https?://)?[a-z0-9*?._-]*[a-z0-9][a-z0-9*?._-]*(?::[0-9*?]+)?", re.IGNORECASE)
_NUMERIC = re.compile(r"(?:.*\.)?(?:[0-9]+|0x[0-9a-f]*)")  # what a browser parses as an IPv4 address
#: A host pattern of digits, dots and wildcards describes addresses, and so admits no name (better-auth's rule).
_ADDRESSES = re.compile(r"(?=.*[0-9])[0-9*?.]+")


def parse_authority(text: str) -> tuple[str, int | None] | None:
    """Return host (lower case, IPv6 in brackets) and port of ``host[:port]``, None if it is malformed."""
    match = _AUTHORITY.fullmatch(text)
    if match is None:
        return None
    port = int(match[2]) if match[2] else None
    host = _canonical_host(match[1].lower())
    return None if host is None or (port is not None and not 0 < port <= LARGEST_PORT) else (host, port)


def is_address(host: str) -> bool:
    """Return whether *host*, as `parse_authority` returns it, is an IP address and no name."""
    return host.startswith("[") or _is_ipv4(host)


def is_loopback(host: str) -> bool:
    """Return whether *host*, as `parse_authority` returns it, is ``localhost`` or a loopback address."""
    return host == "localhost" or (is_address(host) and ip_address(host.strip("[]")).is_loopback)


@dataclass(frozen=True, slots=True)
class Origin:
    """Scheme (``http`` or ``https``), host as `parse_authority` returns it, and port."""

    scheme: str
    host: str
    port: int

    @classmethod
    def of(cls, url: str) -> Origin | None:
        """Return the origin of an absolute http or https URL, None for any other text."""
        match = None if _AMBIGUOUS.search(url) else _URL.fullmatch(url)
        return cls.at(match[1].lower(), match[2]) if match else None

    @classmethod
    def at(cls, scheme: str, authority: str) -> Origin | None:
        """Return the origin of a request to *authority* (a Host header), None if that is malformed."""
        parsed = parse_authority(authority)
        if parsed is None or scheme not in DEFAULT_PORTS:
            return None
        return cls(scheme, parsed[0], parsed[1] or DEFAULT_PORTS[scheme])

    @property
    def authority(self) -> str:
        """The host, with the port unless it is the scheme's."""
        return self.host if self.port == DEFAULT_PORTS[self.scheme] else f"{self.host}:{self.port}"

    def __str__(self) -> str:
        return f"{self.scheme}://{self.authority}"


@dataclass(frozen=True)
class OriginPattern:
    """One of better-auth's patterns: ``https://*.example.com``, or ``*.example.com`` for both schemes.

    ``*`` is any text and ``?`` any character; a port other than the scheme's must be in the pattern.
    """

    text: str

    @classmethod
    def of(cls, text: str) -> OriginPattern | None:
        """Return the pattern *text*, None if it is malformed, has no wildcard, or nothing else in its host."""
        return cls(text.lower()) if re.search(r"[*?]", text) and _PATTERN.fullmatch(text) else None

    def matches(self, origin: Origin) -> bool:
        """Return whether *origin* is one of the pattern's."""
        value = str(origin) if "://" in self.text else origin.authority
        return self._regex.fullmatch(value) is not None and self._admits(origin.host)

    def matches_host(self, host: str) -> bool:
        """Return whether the pattern has an origin at *host*, on any port."""
        return _wildcards(self._host).fullmatch(host) is not None and self._admits(host)

    @cached_property
    def _host(self) -> str:
        return self.text.rpartition("://")[2].partition(":")[0]

    @cached_property
    def _regex(self) -> re.Pattern[str]:
        return _wildcards(self.text)

    def _admits(self, host: str) -> bool:
        return _ADDRESSES.fullmatch(self._host) is None or _is_ipv4(host)


def _wildcards(text: str) -> re.Pattern[str]:
    return re.compile("".join({"*": ".*", "?": "."}.get(char) or re.escape(char) for char in text))


def _canonical_host(host: str) -> str | None:
    if host.startswith("["):
        try:
            return f"[{IPv6Address(host[1:-1])}]"
        except AddressValueError:
            return None
    return None if _NUMERIC.fullmatch(host) and not _is_ipv4(host) else host


def _is_ipv4(host: str) -> bool:
    try:
        IPv4Address(host)
    except AddressValueError:
        return False
    return True
