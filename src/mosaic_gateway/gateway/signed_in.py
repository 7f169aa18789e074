"""Who sends a request: the session and the user that its cookie or bearer token names.

A session that is used is extended as by better-auth's session middleware, whichever endpoint uses it; `endpoint_route`
adds the cookies of `pending_cookies` to the response.
"""

from __future__ import annotations

from dataclasses import dataclass

from starlette.requests import Request

from mosaic_gateway.auth.better_auth_format import utc_now
from mosaic_gateway.auth.cookies import Cookies
from mosaic_gateway.auth.sessions import Session, delete_session, extend_session, find_session
from mosaic_gateway.auth.users import User
from mosaic_gateway.gateway.database import Database
from mosaic_gateway.gateway.messages import ApiError, pending_cookies

__all__ = ["SignedIn", "Visitors"]


@dataclass(frozen=True, slots=True)
class SignedIn:
    """A valid session and its user."""

    session: Session
    user: User

    @property
    def is_admin(self) -> bool:
        """Whether ``admin`` is among the user's roles, which better-auth joins with commas."""
        return "admin" in (self.user.role or "").split(",")


class Visitors:
    """Finds out who sends a request."""

    def __init__(self, database: Database, cookies: Cookies) -> None:
        self._database = database
        self._cookies = cookies

    def token(self, request: Request) -> str | None:
        """Return the session token of *request*, or None."""
        return self._cookies.session_token(request.headers.get("cookie"), request.headers.get("authorization"))

    async def find(self, request: Request) -> SignedIn | None:
        """Return who is signed in, None if no one is.

        Writes only if the session is to be extended, which then sends its cookie again, or has expired, which deletes
        it. A token that is not that of a session has its cookies deleted. Raises `DatabaseUnavailableError`.
        """
        token = self.token(request)
        if token is None:
            return None
        found = await self._database.read(lambda connection: find_session(connection, token))
        now = utc_now()
        if found is not None and found[0].expires_at < now:
            await self._database.write(lambda connection: delete_session(connection, token))
            found = None
        elif found is not None and found[0].is_to_be_extended(now) and self._may_extend(request):
            found = await self._extended(request, *found)
        if found is None:
            pending_cookies(request).extend(self._cookies.cleared())
            return None
        return SignedIn(*found)

    async def look_up(self, request: Request) -> SignedIn | None:
        """Return who is signed in, None if no one is. Reads only: for a response that reaches no browser."""
        token = self.token(request)
        if token is None:
            return None
        found = await self._database.read(lambda connection: find_session(connection, token))
        return SignedIn(*found) if found is not None and found[0].expires_at >= utc_now() else None

    def would_extend(self, request: Request, session: Session) -> bool:
        """Return whether `find` would extend *session*, which `look_up` found for *request*."""
        return session.is_to_be_extended(utc_now()) and self._may_extend(request)

    async def require(self, request: Request) -> SignedIn:
        """Return who is signed in. Raises `ApiError` (401 UNAUTHORIZED)."""
        signed_in = await self.find(request)
        if signed_in is None:
            raise ApiError(401, "UNAUTHORIZED", "Unauthorized")
        return signed_in

    def _may_extend(self, request: Request) -> bool:
        unwanted = request.query_params.get("disableRefresh")
        return not unwanted and not self._cookies.dont_remember(request.headers.get("cookie"))

    async def _extended(self, request: Request, session: Session, user: User) -> tuple[Session, User] | None:
        """Extend *session*; None if it has been revoked since it was read."""
        extended = await self._database.write(lambda connection: extend_session(connection, session, utc_now()))
        if extended is None:
            return None
        pending_cookies(request).extend(self._cookies.signed_in(session.token, remember=True))
        return extended, user
