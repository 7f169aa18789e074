"""Which Host headers are those of this gateway; a page that uses DNS rebinding comes with another name."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from mosaic_gateway.web_origin import Origin, OriginPattern, is_address, is_loopback

__all__ = ["OwnHosts", "machine_names"]

MULTICAST_DNS = ".local"


@dataclass(frozen=True, slots=True)
class OwnHosts:
    """*names* (lower case), the hosts of *patterns*, ``localhost`` and every IP address, each on any port.

    Ports do not matter, since a tunnel or a container may map them. An address needs no list: to reach the gateway
    by its address, a foreign page would have to be at that address.
    """

    names: frozenset[str]
    patterns: tuple[OriginPattern, ...] = ()

    @classmethod
    def of(cls, urls: Iterable[str], trusted_origins: Iterable[str], machine: Iterable[str]) -> OwnHosts:
        """Return the hosts of *urls* and *trusted_origins*, and the names *machine*."""
        trusted = tuple(trusted_origins)
        origins = (Origin.of(text) for text in (*urls, *trusted))
        names = {origin.host for origin in origins if origin} | {name.lower() for name in machine}
        return cls(frozenset(names), tuple(pattern for text in trusted if (pattern := OriginPattern.of(text))))

    def include(self, host: str) -> bool:
        """Return whether *host* (as `parse_authority` returns it) is one of the gateway's."""
        return (
            host in self.names
            or is_address(host)
            or is_loopback(host)
            or any(pattern.matches_host(host) for pattern in self.patterns)
        )


def machine_names(name: str) -> frozenset[str]:
    """Return the names of the machine with the host name *name*: also its first label, and both with ``.local``."""
    names = {name.lower(), name.lower().partition(".")[0]} - {""}
    return frozenset(f"{host}{suffix}" for host in names for suffix in ("", MULTICAST_DNS))
