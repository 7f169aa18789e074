"""Who sent a request that came through proxies: client address, scheme and host, decided from headers.

A header is believed only as far as each proxy that wrote to it is trusted: its list is read from right to left,
past trusted proxies, up to the first other address. If a request has X-Forwarded-* headers, Forwarded (RFC 7239) is
ignored, since a proxy that writes one kind passes the other on as its client sent it.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network

from mosaic_gateway.web_origin import parse_authority

__all__ = ["FORWARDING_HEADERS", "Client", "TrustedProxies", "plain_address", "resolve_client"]

UNIX = "unix"
SCHEMES = frozenset({"http", "https"})
FOR, PROTO, HOST, FORWARDED = b"x-forwarded-for", b"x-forwarded-proto", b"x-forwarded-host", b"forwarded"
FORWARDING_HEADERS = frozenset({FOR, PROTO, HOST, FORWARDED})

_PORT = r"(?::(?:[0-9]{1,5}|_[A-Za-z0-9._-]+))?"
_NODE = re.compile(rf"([0-9.]+){_PORT}|\[([0-9A-Fa-f:.]+)\]{_PORT}|([0-9A-Fa-f:.]+)")
_PAIR = re.compile(r"""([a-z]+)=(?:([!#$%&'*+.^_`|~0-9a-z-]+)|"((?:[^"\\]|\\.)*)")""", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Client:
    """Address (None: unknown, behind a unix socket), scheme, and the host that a proxy reports, None if none does."""

    address: str | None
    scheme: str
    host: str | None = None


@dataclass(frozen=True, slots=True)
class TrustedProxies:
    """The networks of the proxies whose headers are believed; *unix*: and every process behind a unix socket."""

    networks: tuple[IPv4Network | IPv6Network, ...] = ()
    unix: bool = False

    @classmethod
    def of(cls, entries: Iterable[str]) -> TrustedProxies:
        """Return those of the setting: addresses, networks, and the word ``unix``. Raises ValueError."""
        listed = list(entries)
        return cls(tuple(ip_network(entry) for entry in listed if entry != UNIX), UNIX in listed)

    def trusts(self, address: str | None) -> bool:
        """Return whether *address* is that of a trusted proxy; None is the peer at a unix socket."""
        return self.unix if address is None else bool(self.networks) and _is_in(address, self.networks)


@dataclass(frozen=True, slots=True)
class _Hop:
    """What a proxy reports about the sender of a request; empty texts where it reports nothing."""

    sender: str = ""
    scheme: str = ""
    host: str = ""


def resolve_client(
    peer: str | None, scheme: str, headers: Iterable[tuple[bytes, bytes]], proxies: TrustedProxies
) -> Client:
    """Return who sent a request that arrived from *peer* (an address, None for a unix socket) by *scheme*.

    *headers* have lower-case names. Malformed entries are never an address, a scheme or a host.
    """
    address, host = peer, None
    if not proxies.trusts(peer):
        return Client(address, scheme)
    for hop in _hops(headers):
        scheme = hop.scheme if hop.scheme in SCHEMES else scheme
        host = hop.host if parse_authority(hop.host) else host
        if hop.sender == "unix:" and proxies.unix:
            continue
        sender = _node_address(hop.sender)
        if sender is None:
            break
        address = sender
        if not proxies.trusts(sender):
            break
    return Client(address, scheme, host)


@lru_cache(maxsize=1024)
def plain_address(text: str) -> str:
    """Return an IPv4 address that a dual-stack socket reports as IPv6 (``::ffff:…``) as IPv4, other text unchanged."""
    parsed = _parsed(text)
    return text if parsed is None else str(parsed)


@lru_cache(maxsize=4096)
def _is_in(address: str, networks: tuple[IPv4Network | IPv6Network, ...]) -> bool:
    parsed = _parsed(address)
    return parsed is not None and any(parsed in network for network in networks)


def _parsed(text: str) -> IPv4Address | IPv6Address | None:
    try:
        address = ip_address(text)
    except ValueError:
        return None
    return (isinstance(address, IPv6Address) and address.ipv4_mapped) or address


def _node_address(text: str) -> str | None:
    """Return the address of ``192.0.2.1``, ``192.0.2.1:80``, ``2001:db8::1``, ``[2001:db8::1]:80``, else None."""
    match = _NODE.fullmatch(text)
    parsed = _parsed(next(group for group in match.groups() if group)) if match else None
    return None if parsed is None else str(parsed)


def _hops(headers: Iterable[tuple[bytes, bytes]]) -> Iterator[_Hop]:
    """Yield what the proxies report, that of the last one first."""
    values: dict[bytes, list[str]] = {}
    for name, value in headers:
        if name in FORWARDING_HEADERS:
            values.setdefault(name, []).append(value.decode("latin-1"))
    if not values.keys() & {FOR, PROTO, HOST}:
        yield from map(_hop_of_element, _reversed_entries(values.get(FORWARDED, ())))
        return
    senders, schemes, hosts = (_reversed_entries(values.get(name, ())) for name in (FOR, PROTO, HOST))
    for index, sender in enumerate(senders or [""]):
        yield _Hop(sender, _at(schemes, index), _at(hosts, index))


def _reversed_entries(values: Iterable[str]) -> list[str]:
    return [entry for entry in map(str.strip, reversed(",".join(values).split(","))) if entry]


def _at(entries: Sequence[str], index: int) -> str:
    """Return the entry of a list to which the last proxies may have added nothing."""
    return entries[min(index, len(entries) - 1)] if entries else ""


def _hop_of_element(element: str) -> _Hop:
    """Return the report in one element of Forwarded: ``for=192.0.2.60;proto=https;host="example.com:8443"``.

    An element that is not of pairs reports nothing; a comma or semicolon in quotes is not supported.
    """
    pairs = {}
    for part in filter(None, map(str.strip, element.split(";"))):
        match = _PAIR.fullmatch(part)
        if match is None:
            return _Hop()
        pairs[match[1].lower()] = match[2] or match[3]
    return _Hop(pairs.get("for", ""), pairs.get("proto", "").lower(), pairs.get("host", ""))
