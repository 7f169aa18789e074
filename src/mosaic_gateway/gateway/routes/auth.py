"""``/api/auth``: the session and sign-out, byte-compatible with better-auth."""

from __future__ import annotations

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from mosaic_gateway.auth.cookies import Cookies
from mosaic_gateway.auth.sessions import delete_session
from mosaic_gateway.gateway import messages
from mosaic_gateway.gateway.database import Database
from mosaic_gateway.gateway.routes.endpoint import endpoint_route
from mosaic_gateway.gateway.signed_in import Visitors

__all__ = ["AuthRoutes"]

NO_CACHE = {"pragma": "no-cache"}


class AuthRoutes:
    """The endpoints sign-out, get-session and ok."""

    def __init__(self, database: Database, cookies: Cookies) -> None:
        self._database = database
        self._cookies = cookies
        self._visitors = Visitors(database, cookies)

    def routes(self) -> list[Route]:
        """Return the routes of the endpoints."""
        return [
            endpoint_route("GET", "/api/auth/get-session", self.get_session),
            endpoint_route("GET", "/api/auth/ok", self.ok),
            endpoint_route("POST", "/api/auth/sign-out", self.sign_out),
        ]

    async def sign_out(self, request: Request) -> Response:
        """``POST sign-out``: delete the session, if any, and clear its cookies in any case."""
        await messages.read_body(request, (messages.JSON,))
        token = self._visitors.token(request)
        if token is not None:
            await self._database.write(lambda connection: delete_session(connection, token))
        return messages.json_response({"success": True}, cookies=self._cookies.cleared())

    async def get_session(self, request: Request) -> Response:
        """``GET get-session``: return session and user, or ``null``; an expired session is deleted."""
        found = await self._visitors.find(request)
        body = None if found is None else {"session": found.session.to_json(), "user": found.user.to_json()}
        return messages.json_response(body, headers=NO_CACHE)

    async def ok(self, _request: Request) -> Response:
        """``GET ok``: return ``{"ok": true}``."""
        return messages.json_response({"ok": True})
