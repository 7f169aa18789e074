"""The outermost layer of the application: client, scheme and Host of each request, and what depends on them.

Everything behind it reads ``request.client``, ``request.url.scheme`` and the Host header as if there were no proxy.
"""

from __future__ import annotations

import logging
import socket
from collections.abc import Iterable
from functools import lru_cache, partial

from starlette.requests import Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from mosaic_gateway.gateway.host_refusal import malformed_host, refused_host
from mosaic_gateway.gateway.hosts import OwnHosts, machine_names
from mosaic_gateway.gateway.origins import TrustedOrigins
from mosaic_gateway.gateway.proxies import FORWARDING_HEADERS, Client, TrustedProxies, plain_address, resolve_client
from mosaic_gateway.gateway.web_settings import WebSettings
from mosaic_gateway.web_origin import Origin, parse_authority

__all__ = ["FORWARD_CHECK", "RequestBoundary", "request_origins", "request_peer", "was_forwarded"]

logger = logging.getLogger(__name__)

#: A year, in seconds; not for subdomains, which may be other services.
HSTS = (b"strict-transport-security", b"max-age=31536000")
CACHED = 1024  # entries of each cache
LONGEST = 512  # bytes of a Host header, longer than any host, and of headers whose result is cached
TRACES = FORWARDING_HEADERS | {b"via", b"x-real-ip"}
MAPPED = "::ffff:"  # an IPv4 address, as a dual-stack socket reports it
FORWARDED, ORIGINS, PEER = "forwarded", "trusted_origins", "peer"  # keys of a request's state
FORWARD_CHECK = "/api/auth/forward"  # a proxy asks there about a request to a service, with the Host of the service


class RequestBoundary:
    """Resolves who sends a request, refuses a foreign Host, and adds HSTS to the responses of an https gateway.

    The state of each request then has ``forwarded``, ``trusted_origins`` and ``peer``: `was_forwarded`,
    `request_origins`, `request_peer`.
    """

    def __init__(self, app: ASGIApp, settings: WebSettings) -> None:
        self._app = app
        self._proxies = TrustedProxies.of(settings.trusted_proxies)
        self._origins = TrustedOrigins.of(settings.base_url, settings.trusted_origins)
        urls = (settings.base_url, settings.local_url)
        hosts = OwnHosts.of(urls, settings.trusted_origins, machine_names(socket.gethostname()))
        self._is_own = lru_cache(CACHED)(lambda value: _own_host(value, hosts))
        self._cached_client = lru_cache(CACHED)(partial(resolve_client, proxies=self._proxies))
        self._https = settings.base_url.lower().startswith("https://")
        self._reported = False

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one ASGI event stream; those that are no HTTP requests are passed on."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        self._resolve(scope)
        if self._https and scope["scheme"] == "https":
            send = _with_hsts(send)
        hosts = [value for name, value in scope["headers"] if name == b"host"]
        known = self._is_own(hosts[0]) if len(hosts) == 1 and len(hosts[0]) <= LONGEST else None
        if known is False and scope["path"] == FORWARD_CHECK:
            known = True
        app = self._app if known else malformed_host if known is None else refused_host
        await app(scope, receive, send)

    def _resolve(self, scope: Scope) -> None:
        """Set the state of the request in *scope*, and rewrite client, scheme and Host as trusted proxies report."""
        traces = [header for header in scope["headers"] if header[0] in TRACES]
        scope.setdefault("state", {}).update({FORWARDED: bool(traces), ORIGINS: self._origins})
        peer, port = scope["client"] or (None, 0)
        if peer is not None and peer.startswith(MAPPED):
            peer = plain_address(peer)
            scope["client"] = (peer, port)
        scope["state"][PEER] = None if _is_unix(scope) else peer or ""
        if not traces or (peer is None and not _is_unix(scope)):
            return
        if not self._proxies.trusts(peer):
            self._report_ignored(peer, traces)
            return
        client = self._resolved(peer, scope["scheme"], tuple(traces))
        scope["scheme"] = client.scheme
        if client.address is not None and client.address != peer:
            scope["client"] = (client.address, 0)
        if client.host is not None:
            others = [header for header in scope["headers"] if header[0] != b"host"]
            scope["headers"] = [*others, (b"host", client.host.encode("ascii"))]

    def _resolved(self, peer: str | None, scheme: str, headers: tuple[tuple[bytes, bytes], ...]) -> Client:
        """Return the client of a request, from the cache if the headers are short: many requests have the same."""
        if sum(len(value) for _, value in headers) > LONGEST:
            return resolve_client(peer, scheme, headers, self._proxies)
        return self._cached_client(peer, scheme, headers)

    def _report_ignored(self, peer: str | None, headers: Iterable[tuple[bytes, bytes]]) -> None:
        """Log once that forwarding headers are ignored: more lines would let a client fill the log."""
        names = sorted(name.decode() for name, _ in headers if name in FORWARDING_HEADERS)
        if names and not self._reported:
            self._reported = True
            logger.warning(
                "Requests from %s have %s, which is ignored: the address is not in trusted_proxies (config.toml)."
                " If it is your proxy's, add it; this is reported once.", peer or "a unix socket", names[0],
            )  # fmt: skip


def was_forwarded(request: Request) -> bool:
    """Return whether *request* has headers that a proxy adds, trusted or not."""
    return bool(request.scope["state"][FORWARDED])


def request_peer(request: Request) -> str | None:
    """Return the address that sent *request* to the gateway: of the last proxy, if any; None for a unix socket."""
    peer: str | None = request.scope["state"][PEER]
    return peer


def request_origins(request: Request) -> TrustedOrigins:
    """Return the origins that *request* may come from and be answered to: those of the settings, and its own."""
    trusted: TrustedOrigins = request.scope["state"][ORIGINS]
    return trusted.including(Origin.at(request.scope["scheme"], request.headers["host"]))


def _own_host(value: bytes, hosts: OwnHosts) -> bool | None:
    """Return whether a Host header is one of *hosts*, None if it is malformed."""
    parsed = parse_authority(value.decode("latin-1"))
    return None if parsed is None else hosts.include(parsed[0])


def _is_unix(scope: Scope) -> bool:
    """Return whether a request without a peer address came through a unix socket, which has no port."""
    server = scope.get("server")
    return server is not None and server[1] is None


def _with_hsts(send: Send) -> Send:
    async def send_with_hsts(message: Message) -> None:
        if message["type"] == "http.response.start":
            message["headers"] = [*message.get("headers", ()), HSTS]
        await send(message)

    return send_with_hsts
