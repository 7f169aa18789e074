"""Who sends a request: the session and the user that its cookie or bearer token names."""

from __future__ import annotations

from dataclasses import dataclass

from starlette.requests import Request

from mosaic_gateway.auth.better_auth_format import utc_now
from mosaic_gateway.auth.cookies import Cookies
from mosaic_gateway.auth.sessions import Session, find_session
from mosaic_gateway.auth.users import User
from mosaic_gateway.gateway.database import Database
from mosaic_gateway.gateway.messages import ApiError

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
    """Finds out who sends a request. Reads only."""

    def __init__(self, database: Database, cookies: Cookies) -> None:
        self._database = database
        self._cookies = cookies

    def token(self, request: Request) -> str | None:
        """Return the session token of *request*, or None."""
        return self._cookies.session_token(request.headers.get("cookie"), request.headers.get("authorization"))

    async def find(self, request: Request) -> SignedIn | None:
        """Return who is signed in, None if no one is or the session has expired. Raises `DatabaseUnavailableError`."""
        token = self.token(request)
        if token is None:
            return None
        found = await self._database.read(lambda connection: find_session(connection, token))
        return SignedIn(*found) if found is not None and found[0].expires_at >= utc_now() else None

    async def require(self, request: Request) -> SignedIn:
        """Return who is signed in. Raises `ApiError` (401 UNAUTHORIZED)."""
        signed_in = await self.find(request)
        if signed_in is None:
            raise ApiError(401, "UNAUTHORIZED", "Unauthorized")
        return signed_in
