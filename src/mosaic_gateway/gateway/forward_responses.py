"""The responses to a proxy that asks about a request: who the user is, or where a browser goes first."""

from __future__ import annotations

import html
import re
from urllib.parse import quote

from starlette.requests import Request
from starlette.responses import Response

from mosaic_gateway.auth.users import User
from mosaic_gateway.gateway.messages import json_response
from mosaic_gateway.gateway.original_request import OriginalRequest
from mosaic_gateway.gateway.origins import TrustedOrigins
from mosaic_gateway.gateway.refusal_page import refusal_page
from mosaic_gateway.gateway.web_settings import WebSettings
from mosaic_gateway.web_origin import Origin

__all__ = ["Redirects", "forbidden", "permission", "unauthorized"]

NAMES = (b"remote-user", b"remote-email", b"remote-name", b"remote-groups")
URL_MAX = 2000  # characters of a URL to return to; proxies limit the size of a response's headers
UNAUTHORIZED = {"message": "Unauthorized", "code": "UNAUTHORIZED"}
REFUSAL = """<p>You are signed in, but this service is not open to you. Ask the person who runs it for access, or
<a href="%s/">sign out at the gateway</a> and sign in with another account.</p>"""
#: Not for a header: control characters, line separators, marks of writing direction, lone surrogates.
UNPRINTABLE = re.compile("[\x00-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069\ud800-\udfff]+")


def permission(user: User | None, identity: str) -> Response:
    """Return 200 with the headers of *user*, who is *identity*, all empty without a user; texts are in UTF-8."""
    response = Response(None, 200, {"cache-control": "no-store"})
    values = ("", "", "", "") if user is None else (identity, user.email, user.name, ",".join(user.roles))
    response.raw_headers.extend(zip(NAMES, map(_header_value, values), strict=True))
    return response


def unauthorized() -> Response:
    """Return 401 for a program."""
    return json_response(UNAUTHORIZED, status=401)


def forbidden(request: Request, original: OriginalRequest, user: User, base_url: str) -> Response:
    """Return 403 for *user*: a page for a browser that opens one, JSON for other clients."""
    message = f"{user.email} may not open {original.host}"
    if not _is_navigation(request, original.method):
        return json_response({"message": message, "code": "FORBIDDEN"}, status=403)
    return refusal_page(403, "Not permitted", html.escape(message), REFUSAL % html.escape(base_url))


class Redirects:
    """Redirects of browsers to pages of the gateway, which send them back, only ever to trusted origins."""

    def __init__(self, web: WebSettings) -> None:
        self._base_url = web.base_url
        self._origins = TrustedOrigins.of(web.base_url, web.trusted_origins)
        self._cookie_domain = web.cookie_domain
        own = Origin.of(web.base_url)
        self._host = own.host if own else ""

    def accept(self, url: str) -> bool:
        """Return whether a browser may be sent to *url*, an absolute URL."""
        return self._origins.accepts_origin(url)

    def to(self, page: str, url: str) -> str:
        """Return the address of *page*, which ends with the name of its parameter, to return to *url*."""
        return f"{self._base_url}{page}{quote(url, safe='')}"

    def via(self, request: Request, original: OriginalRequest, page: str) -> Response | None:
        """Return a redirect to *page*; for nginx 401 with the page in Location, since it passes on no redirect.

        None if no browser opens a page, or one that must not be returned to.
        """
        if not _is_navigation(request, original.method) or not self._return_to(original):
            return None
        url = original.url if len(original.url) <= URL_MAX else f"{original.origin}/"
        status = 401 if original.by_nginx else 302
        return json_response(UNAUTHORIZED, status=status, headers={"location": self.to(page, url)})

    def _return_to(self, original: OriginalRequest) -> bool:
        """Return whether the origin is trusted, and a browser that signs in sends the session cookie there."""
        host, domain = original.host, self._cookie_domain
        reached = host == self._host or (domain is not None and (host == domain or host.endswith(f".{domain}")))
        return reached and self.accept(str(original.origin))


def _header_value(text: str) -> bytes:
    return UNPRINTABLE.sub(" ", text).strip().encode()


def _is_navigation(request: Request, method: str) -> bool:
    """Return whether a browser opens a page, rather than a program or a script that cannot follow to a sign-in page."""
    headers = request.headers
    if method != "GET" or "text/html" not in headers.get("accept", ""):
        return False
    return headers.get("sec-fetch-mode", "navigate") == "navigate" and "x-requested-with" not in headers
