"""``/api/auth``: sign-in, sign-out and the session, byte-compatible with better-auth."""

from __future__ import annotations

from psycopg import AsyncConnection
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from mosaic_gateway.auth.better_auth_format import utc_now
from mosaic_gateway.auth.cookies import Cookies
from mosaic_gateway.auth.passwords import Hasher, check_not_too_long, verify_password
from mosaic_gateway.auth.sessions import (
    Credentials,
    Session,
    admit,
    delete_session,
    find_credentials,
    find_session,
    insert_session,
    lift_ban,
    new_session,
)
from mosaic_gateway.auth.users import User, check_email
from mosaic_gateway.gateway import messages
from mosaic_gateway.gateway.database import Database
from mosaic_gateway.gateway.routes.endpoint import endpoint_route

__all__ = ["AuthRoutes"]

NO_CACHE = {"pragma": "no-cache"}


class AuthRoutes:
    """The endpoints sign-in, sign-out and get-session."""

    def __init__(self, database: Database, hasher: Hasher, cookies: Cookies) -> None:
        self._database = database
        self._hasher = hasher
        self._cookies = cookies

    def routes(self) -> list[Route]:
        """Return the routes of the endpoints."""
        return [
            endpoint_route("GET", "/api/auth/get-session", self.get_session),
            endpoint_route("POST", "/api/auth/sign-in/email", self.sign_in),
            endpoint_route("POST", "/api/auth/sign-out", self.sign_out),
        ]

    async def sign_in(self, request: Request) -> Response:
        """``POST sign-in/email``: create a session. Computes one password hash whether the user exists or not."""
        email, password, remember = _sign_in_fields(await messages.read_body(request, (messages.JSON, messages.FORM)))
        credentials = await self._database.read(lambda connection: find_credentials(connection, email))
        stored = credentials.password_hash if credentials else None
        verified = await self._hasher.run(verify_password, stored, password)
        user, session = await self._create_session(request, credentials, verified=verified, remember=remember)
        return messages.json_response(
            {"redirect": False, "token": session.token, "user": user.to_json()},
            cookies=self._cookies.signed_in(session.token, remember=remember),
        )

    async def sign_out(self, request: Request) -> Response:
        """``POST sign-out``: delete the session, if any, and clear its cookies in any case."""
        await messages.read_body(request, (messages.JSON,))
        token = self._token(request)
        if token is not None:
            await self._delete_session(token)
        return messages.json_response({"success": True}, cookies=self._cookies.cleared())

    async def get_session(self, request: Request) -> Response:
        """``GET get-session``: return session and user, or ``null``; an expired session is deleted."""
        token = self._token(request)
        if token is None:
            return messages.json_response(None, headers=NO_CACHE)
        found = await self._database.read(lambda connection: find_session(connection, token))
        if found is not None and found[0].expires_at >= utc_now():
            session, user = found
            return messages.json_response({"session": session.to_json(), "user": user.to_json()}, headers=NO_CACHE)
        if found is not None:
            await self._delete_session(token)
        return messages.json_response(None, headers=NO_CACHE, cookies=self._cookies.cleared())

    async def _create_session(
        self, request: Request, credentials: Credentials | None, *, verified: bool, remember: bool
    ) -> tuple[User, Session]:
        user, ban_expired = admit(credentials, verified=verified, now=utc_now())
        session = new_session(
            user.id,
            remember=remember,
            ip_address=messages.client_address(request),
            user_agent=messages.user_agent(request),
        )

        async def insert(connection: AsyncConnection) -> None:
            if ban_expired:
                await lift_ban(connection, user)
            await insert_session(connection, session)

        await self._database.write(insert)
        return user, session

    async def _delete_session(self, token: str) -> None:
        await self._database.write(lambda connection: delete_session(connection, token))

    def _token(self, request: Request) -> str | None:
        return self._cookies.session_token(request.headers.get("cookie"), request.headers.get("authorization"))


def _sign_in_fields(parsed: object) -> tuple[str, str, bool]:
    body = messages.require_object(parsed)
    issues = [
        messages.field_issue(body, "email"),
        messages.field_issue(body, "password"),
        messages.field_issue(body, "rememberMe", bool, optional=True),
    ]
    if any(issues):
        raise messages.issues_error([issue for issue in issues if issue])
    email, password = check_email(str(body["email"])), str(body["password"])
    check_not_too_long(password)
    return email, password, body.get("rememberMe") is not False
