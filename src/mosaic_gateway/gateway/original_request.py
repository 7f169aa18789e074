"""The request about which a reverse proxy asks, from the headers of its check.

Caddy and Traefik send X-Forwarded-Proto, -Host, -Uri and -Method; nginx is configured to send X-Original-URL and
X-Original-Method. A proxy passes on, as its client sent them, the headers of the other kind. Therefore a check with
both is refused unless they agree, and nothing that is missing is guessed.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from starlette.datastructures import Headers

from mosaic_gateway.gateway.messages import ApiError
from mosaic_gateway.web_origin import Origin

__all__ = ["OriginalRequest", "original_request"]

URL, ORIGINAL_METHOD = b"x-original-url", b"x-original-method"
PROTO, HOST, URI, METHOD = b"x-forwarded-proto", b"x-forwarded-host", b"x-forwarded-uri", b"x-forwarded-method"
NAMES = frozenset({URL, ORIGINAL_METHOD, PROTO, HOST, URI, METHOD})
SCHEMES = {"http": "http", "https": "https", "ws": "http", "wss": "https"}  # Traefik reports WebSockets as ws
ABSOLUTE = re.compile(r"([a-z]+)://([^/?#@\\\s]+)(/.*)?", re.IGNORECASE)
TARGET = re.compile(r"/[\x21\x22\x24-\x7e]*")  # visible ASCII without the # of a fragment
NAME_OF_METHOD = re.compile("[A-Z][A-Z-]{0,31}")


@dataclass(frozen=True, slots=True, kw_only=True)
class OriginalRequest:
    """``target`` is the path with the query, as sent. ``by_nginx``: nginx asks, which passes on no redirect."""

    method: str
    origin: Origin
    target: str
    by_nginx: bool

    @property
    def path(self) -> str:
        """The path, still encoded."""
        return self.target.partition("?")[0]

    @property
    def host(self) -> str:
        """The host name in lower case, without a dot at its end and without the port."""
        return self.origin.host

    @property
    def url(self) -> str:
        """The absolute URL."""
        return f"{self.origin}{self.target}"


def original_request(headers: Headers) -> OriginalRequest:
    """Return the request that *headers* describe.

    Raises `ApiError`: 400 ORIGINAL_URL_MISSING (the proxy is not configured), 403 ORIGINAL_URL_INVALID.
    """
    values = _values(headers)
    url, method = values.get(URL), values.get(ORIGINAL_METHOD)
    proto, host, uri, forwarded_method = (values.get(name) for name in (PROTO, HOST, URI, METHOD))
    if url is None:
        if proto is None or host is None or uri is None:
            raise ApiError(
                400,
                "ORIGINAL_URL_MISSING",
                "The proxy sends neither X-Original-URL nor X-Forwarded-Proto, -Host and -Uri",
            )
        return _checked(forwarded_method, proto, host, uri, by_nginx=False)
    match = ABSOLUTE.fullmatch(url)
    if match is None:
        raise _invalid("X-Original-URL is not an absolute URL")
    original = _checked(method, match[1], match[2], match[3] or "/", by_nginx=True)
    other = _checked(forwarded_method or method, proto or match[1], host or match[2], uri or match[3] or "/",
                     by_nginx=True)  # fmt: skip
    if other != original:
        raise _invalid("X-Original-URL and X-Forwarded-* differ; remove the one that the proxy does not set")
    return original


def _checked(method: str | None, scheme: str, authority: str, target: str, *, by_nginx: bool) -> OriginalRequest:
    name, _, port = authority.partition(":") if not authority.startswith("[") else (authority, "", "")
    authority = ":".join(filter(None, (name.removesuffix("."), port)))
    origin = Origin.at(SCHEMES.get(scheme.lower(), ""), authority)
    if origin is None:
        raise _invalid("Scheme or host are malformed")
    if not TARGET.fullmatch(target):
        raise _invalid("The path is malformed")
    if not NAME_OF_METHOD.fullmatch(method := method or "GET"):
        raise _invalid("The method is malformed")
    return OriginalRequest(method=method, origin=origin, target=target, by_nginx=by_nginx)


def _values(headers: Headers) -> dict[bytes, str]:
    """Return the values of `NAMES` that are not empty. Raises `ApiError` if one is there twice."""
    values: dict[bytes, str] = {}
    for name, value in headers.raw:
        if name in NAMES and value:
            if name in values:
                raise _invalid(f"{name.decode()} is sent twice")
            values[name] = value.decode("latin-1")
    return values


def _invalid(problem: str) -> ApiError:
    return ApiError(403, "ORIGINAL_URL_INVALID", problem)
