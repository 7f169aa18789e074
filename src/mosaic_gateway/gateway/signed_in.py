"""Who sends a request: the session and the user that its cookie or bearer token names, or the user of an API token.

A session that is used is extended as by better-auth's session middleware, whichever endpoint uses it; `endpoint_route`
adds the cookies of `pending_cookies` to the response.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta

from psycopg import AsyncConnection
from starlette.requests import Request

from mosaic_gateway.auth import api_tokens
from mosaic_gateway.auth.api_tokens import ApiToken
from mosaic_gateway.auth.audit import Actor
from mosaic_gateway.auth.better_auth_format import utc_now
from mosaic_gateway.auth.cookies import Cookies
from mosaic_gateway.auth.sessions import Session, delete_session, extend_session, find_session
from mosaic_gateway.auth.users import User
from mosaic_gateway.gateway.database import Database
from mosaic_gateway.gateway.messages import ApiError, client_address, pending_cookies

__all__ = ["SignedIn", "Visitor", "Visitors", "actor_of", "require_fresh"]


FRESH = timedelta(days=1)  # better-auth's ``session.freshAge``


@dataclass(frozen=True, slots=True)
class SignedIn:
    """A valid session and its user."""

    session: Session
    user: User

    @property
    def is_fresh(self) -> bool:
        """Whether the session began within the last day; some endpoints need that."""
        return utc_now() - self.session.created_at < FRESH

    @property
    def is_admin(self) -> bool:
        """Whether ``admin`` is among the user's roles."""
        return self.user.is_admin


@dataclass(frozen=True, slots=True)
class Visitor:
    """A user who is signed in with a session, or whose API token the request carries; one of the two is None."""

    user: User
    session: Session | None
    token: ApiToken | None

    @property
    def is_admin(self) -> bool:
        """Whether ``admin`` is among the user's roles."""
        return self.user.is_admin


class Visitors:
    """Finds out who sends a request.

    Functions with a *connection* read in the caller's transaction, so that a session that is revoked, or a role that is
    taken away, before the transaction changes anything has no effect any more.
    """

    def __init__(self, database: Database, cookies: Cookies) -> None:
        self._database = database
        self._cookies = cookies

    def token(self, request: Request) -> str | None:
        """Return the session token of *request*, None if there is none or the request has an API token."""
        if _api_token(request) is not None:
            return None
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
        if self.token(request) is None:
            return None
        return await self._database.read(lambda connection: self._look_up_on(connection, request))

    def would_extend(self, request: Request, session: Session) -> bool:
        """Return whether `find` would extend *session*, which `look_up` found for *request*."""
        return session.is_to_be_extended(utc_now()) and self._may_extend(request)

    async def require(self, request: Request) -> SignedIn:
        """Return who is signed in. Raises `ApiError` (401 UNAUTHORIZED)."""
        signed_in = await self.find(request)
        if signed_in is None:
            raise _unauthorized()
        return signed_in

    async def require_admin(self, request: Request) -> SignedIn:
        """Return who is signed in. Raises `ApiError` (401 UNAUTHORIZED, 403 FORBIDDEN for those who are no admin)."""
        signed_in = await self.require(request)
        if not signed_in.is_admin:
            raise ApiError(403, "FORBIDDEN", "Only admins may do this")
        return signed_in

    async def require_on(self, connection: AsyncConnection, request: Request) -> SignedIn:
        """Return who is signed in, on *connection*, after `require`. Raises `ApiError` (401 UNAUTHORIZED)."""
        signed_in = await self._look_up_on(connection, request)
        if signed_in is None:
            pending_cookies(request).extend(self._cookies.cleared())
            raise _unauthorized()
        return signed_in

    async def identify(self, request: Request, scope: str | None, *, extends: bool = True) -> Visitor | None:
        """Return who is signed in, or the user of the API token of *request* if it is valid and has *scope*.

        None if neither is there; without a *scope* no token is accepted. Records the use of a token; extends a session
        unless *extends* is False. Raises `ApiError` (401 for a token that is not valid, 403 for one without *scope*)
        and `DatabaseUnavailableError`.
        """
        text = _api_token(request)
        if text is None or scope is None:
            signed_in = await (self.find(request) if extends else self.look_up(request))
            return Visitor(signed_in.user, signed_in.session, None) if signed_in else None
        found = await self._database.read(lambda connection: api_tokens.find_token(connection, text))
        if found is None:
            raise _invalid_token()
        record, user = found
        now, address = utc_now(), client_address(request) or None
        refusal = record.refusal(user, now)
        if refusal is not None:
            await self._database.write(lambda c: api_tokens.record_refusal(c, record, refusal, address))
            raise _invalid_token()
        if not record.allows(scope):
            raise ApiError(403, "INSUFFICIENT_SCOPE", f"The API token does not have the scope {scope}")
        if record.needs_use(now):
            await self._database.write(lambda c: api_tokens.record_use(c, record, address))
        return Visitor(user, None, record)

    async def identify_on(self, connection: AsyncConnection, request: Request, scope: str) -> Visitor:
        """Return who is signed in, or the user of the API token, on *connection*, after `identify`.

        Raises `ApiError`: 401 if the session or the token is no longer valid.
        """
        text = _api_token(request)
        if text is None:
            signed_in = await self.require_on(connection, request)
            return Visitor(signed_in.user, signed_in.session, None)
        found = await api_tokens.find_token(connection, text)
        if found is None or found[0].refusal(found[1], utc_now()) or not found[0].allows(scope):
            raise _invalid_token()
        return Visitor(found[1], None, found[0])

    async def _look_up_on(self, connection: AsyncConnection, request: Request) -> SignedIn | None:
        token = self.token(request)
        found = await find_session(connection, token) if token is not None else None
        return SignedIn(*found) if found is not None and found[0].expires_at >= utc_now() else None

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


def require_fresh(signed_in: SignedIn) -> None:
    """Raise `ApiError` (403 SESSION_NOT_FRESH) unless the session is fresh."""
    if not signed_in.is_fresh:
        raise ApiError(403, "SESSION_NOT_FRESH", "Session is not fresh")


def actor_of(request: Request, visitor: SignedIn | Visitor) -> Actor:
    """Return who acts, for the audit log."""
    return Actor(user_id=visitor.user.id, ip_address=client_address(request) or None)


def _api_token(request: Request) -> str | None:
    """Return the API token of *request*, valid or not; None if its Authorization header is absent or another."""
    scheme, _, value = request.headers.get("authorization", "").partition(" ")
    value = value.strip()
    return value if scheme.lower() == "bearer" and value.startswith(api_tokens.PREFIX) else None


def _unauthorized() -> ApiError:
    return ApiError(401, "UNAUTHORIZED", "Unauthorized")


def _invalid_token() -> ApiError:
    return ApiError(401, "INVALID_API_TOKEN", "The API token is unknown, revoked or expired")
