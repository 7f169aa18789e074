"""``/api/auth/forward``: forward authentication, the check that a reverse proxy asks for before it passes a request on.

Anchors: Authelia's ``/api/authz``, oauth2-proxy's ``/oauth2/auth``, tinyauth. For Caddy's ``forward_auth``, nginx's
``auth_request`` and Traefik's ForwardAuth. The headers Remote-User, -Email, -Name and -Groups are in each permission,
empty for a public path: a proxy that copies them replaces what its client sent. What a client can cause is answered
401 or 403, since nginx passes on no other status.

The check changes nothing: its answer reaches the proxy, and not the browser whose cookie would have to be renewed.
When a session is to be extended, once a day, a browser that opens a page is sent through ``forward/extend``.
"""

from __future__ import annotations

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from mosaic_gateway.auth.better_auth_format import utc_now
from mosaic_gateway.auth.cookies import Cookies
from mosaic_gateway.auth.sessions import Session
from mosaic_gateway.forward_rules import PUBLIC, TOKEN, AmbiguousPathError, ForwardRule, find_rule
from mosaic_gateway.gateway.forward_responses import Redirects, forbidden, permission, unauthorized
from mosaic_gateway.gateway.messages import ApiError, header_url, json_response, pending_cookies
from mosaic_gateway.gateway.original_request import OriginalRequest, original_request
from mosaic_gateway.gateway.path_readings import MalformedPathError, path_readings
from mosaic_gateway.gateway.proxies import TrustedProxies
from mosaic_gateway.gateway.request_boundary import FORWARD_CHECK, request_peer
from mosaic_gateway.gateway.routes.endpoint import endpoint_route
from mosaic_gateway.gateway.signed_in import Visitors
from mosaic_gateway.gateway.web_settings import WebSettings

__all__ = ["ForwardRoutes"]

SCOPE = "forward"  # of an API token
METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS")
EXTENDED, EXTENDED_FOR = "extended", 3600  # a cookie and its seconds: no second redirect to ``forward/extend``
SIGN_IN_PAGE, EXTENSION = "/?return=", f"{FORWARD_CHECK}/extend?url="  # of the gateway; a URL to return to follows


class ForwardRoutes:
    """The check, the extension of sessions, and the question whether the sign-in page may send a browser to a URL."""

    def __init__(self, visitors: Visitors, cookies: Cookies, web: WebSettings) -> None:
        self._visitors = visitors
        self._cookies = cookies
        self._web = web
        self._redirects = Redirects(web)
        self._proxies = TrustedProxies.of(web.trusted_proxies)

    def routes(self) -> list[Route]:
        """Return the routes of the endpoints."""
        return [
            endpoint_route(METHODS, FORWARD_CHECK, self.check, any_origin=True),
            endpoint_route("GET", f"{FORWARD_CHECK}/extend", self.extend),
            endpoint_route("GET", f"{FORWARD_CHECK}/return", self.return_target),
        ]

    async def check(self, request: Request) -> Response:
        """Any method ``forward``: 200 with the headers of the user, 302 or 401 to sign in, or 403.

        Reads at most one session, and never the body.
        """
        if not self._proxies.trusts(request_peer(request)):
            message = "Forward authentication is answered only to the addresses in trusted_proxies"
            raise ApiError(403, "PROXY_NOT_TRUSTED", message)
        original = original_request(request.headers)
        rule = self._rule(original)
        if rule.allow == PUBLIC:
            return permission(None, "")
        visitor = await self._visitors.identify(request, SCOPE if rule.allow == TOKEN else None, extends=False)
        if visitor is None:
            return self._redirects.via(request, original, SIGN_IN_PAGE) or unauthorized()
        if visitor.token is not None and set(visitor.token.scopes) != {SCOPE}:  # a proxy may pass it on to the service
            message = f"An API token for services has the scope {SCOPE} and no other"
            raise ApiError(403, "TOKEN_SCOPE_TOO_WIDE", message)
        user, session = visitor.user, visitor.session
        if user.is_banned(utc_now()) or not rule.permits(user.roles):
            return forbidden(request, original, user, self._web.base_url)
        extension = self._extension(request, original, session) if session else None
        return extension or permission(user, user.email if self._web.forward_user == "email" else user.id)

    async def extend(self, request: Request) -> Response:
        """``GET forward/extend?url=…``: extend the session, and redirect back, or to the sign-in page."""
        url = request.query_params.get("url", "")
        if not self._redirects.accept(url):
            return Response(None, 302, {"location": f"{self._web.base_url}/"})
        if await self._visitors.find(request) is None:
            url = self._redirects.to(SIGN_IN_PAGE, url)
        pending_cookies(request).append(self._cookies.signed(EXTENDED, "1", EXTENDED_FOR))
        return Response(None, 302, {"location": header_url(url), "cache-control": "no-store"})

    async def return_target(self, request: Request) -> Response:
        """``GET forward/return?url=…``: return ``{"url"}``, null unless it is an absolute URL of a trusted origin."""
        url = request.query_params.get("url", "")
        return json_response({"url": url if self._redirects.accept(url) else None})

    def _rule(self, original: OriginalRequest) -> ForwardRule:
        try:
            return find_rule(self._web.forward_rules, original.host, path_readings(original.path))
        except MalformedPathError as error:
            raise ApiError(403, "ORIGINAL_URL_INVALID", "The path is malformed") from error
        except AmbiguousPathError as error:
            message = "Servers read this path in different ways, for which the rules differ"
            raise ApiError(403, "PATH_AMBIGUOUS", message) from error

    def _extension(self, request: Request, original: OriginalRequest, session: Session) -> Response | None:
        """Return a redirect to extend *session*, None if it is not to be extended or the browser was just there."""
        if not self._visitors.would_extend(request, session) or self._cookies.read(
            EXTENDED, request.headers.get("cookie")
        ):
            return None
        return self._redirects.via(request, original, EXTENSION)
