"""Which origins and URLs the gateway trusts, by better-auth's rules (its ``matchesOriginPattern``)."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, replace

from mosaic_gateway.web_origin import Origin, OriginPattern, is_loopback

__all__ = ["TrustedOrigins"]

_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f]")
_ENCODED_SEPARATOR = re.compile(r"%(?:2f|5c)", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class TrustedOrigins:
    """The origins *exact*, those that match *patterns*, and of a loopback origin every other name, on its port.

    The names are ``localhost``, 127.0.0.0/8 and ``[::1]``: which one a person types does not matter.
    """

    exact: frozenset[Origin]
    patterns: tuple[OriginPattern, ...] = ()

    @classmethod
    def of(cls, base_url: str, trusted_origins: Iterable[str] = ()) -> TrustedOrigins:
        """Return those of the settings; texts that are neither an origin nor a pattern are ignored."""
        texts = (base_url, *trusted_origins)
        exact = frozenset(origin for text in texts if (origin := Origin.of(text)))
        return cls(exact, tuple(pattern for text in trusted_origins if (pattern := OriginPattern.of(text))))

    def including(self, origin: Origin | None) -> TrustedOrigins:
        """Return these and *origin*: that of a request whose Host is one of the gateway's."""
        return self if origin is None else replace(self, exact=self.exact | {origin})

    def accepts_origin(self, text: str) -> bool:
        """Return whether *text*, an Origin or Referer header, is a trusted origin or a URL of one."""
        origin = Origin.of(text)
        return origin is not None and self._trusts(origin)

    def accepts_url(self, url: str) -> bool:
        """Return whether a browser may be sent to *url*: a path of the gateway, or a URL of a trusted origin."""
        return _is_safe_path(url) if url.startswith("/") else self.accepts_origin(url)

    def _trusts(self, origin: Origin) -> bool:
        if origin in self.exact or any(pattern.matches(origin) for pattern in self.patterns):
            return True
        return is_loopback(origin.host) and any(
            is_loopback(other.host) and (other.scheme, other.port) == (origin.scheme, origin.port)
            for other in self.exact
        )


def _is_safe_path(url: str) -> bool:
    """Return whether every browser resolves *url* to a path of the same origin (better-auth's isSafeRelativeURL)."""
    if url.startswith("//") or "\\" in url or _CONTROL.search(url):
        return False
    return _ENCODED_SEPARATOR.search(re.split("[?#]", url, maxsplit=1)[0]) is None
