"""``/api/auth``: sign-in, sign-out and the session, byte-compatible with better-auth."""

from __future__ import annotations

from psycopg import AsyncConnection
from starlette.requests import Request
from starlette.responses import Response

from mosaic_gateway.auth.cookies import Cookies
from mosaic_gateway.auth.credentials import Credentials, admit, find_credentials, lift_ban
from mosaic_gateway.auth.passwords import Hasher, check_not_too_long, verify_password
from mosaic_gateway.auth.sessions import Session, delete_session, find_session, insert_session, new_session
from mosaic_gateway.auth.times import utc_now
from mosaic_gateway.auth.users import User, check_email
from mosaic_gateway.gateway.database import Database
from mosaic_gateway.gateway.requests import (
    FORM,
    JSON,
    client_address,
    field_issue,
    issues_error,
    read_body,
    require_object,
    user_agent,
)
from mosaic_gateway.gateway.responses import json_response

__all__ = ["AuthRoutes"]

NO_CACHE = {"pragma": "no-cache"}


class AuthRoutes:
    """The endpoints sign-in, sign-out and get-session."""

    def __init__(self, database: Database, hasher: Hasher, cookies: Cookies) -> None:
        self._database = database
        self._hasher = hasher
        self._cookies = cookies

    async def sign_in(self, request: Request) -> Response:
        """``POST sign-in/email``: create a session. Computes one password hash whether the user exists or not."""
        email, password, remember = _sign_in_fields(await read_body(request, (JSON, FORM)))
        credentials = await self._database.read(lambda connection: find_credentials(connection, email))
        stored = credentials.password_hash if credentials else None
        verified = await self._hasher.run(verify_password, stored, password)
        user, session = await self._create_session(request, credentials, verified=verified, remember=remember)
        return json_response(
            {"redirect": False, "token": session.token, "user": user.to_json()},
            cookies=self._cookies.signed_in(session.token, remember=remember),
        )

    async def sign_out(self, request: Request) -> Response:
        """``POST sign-out``: delete the session, if any, and clear its cookies in any case."""
        await read_body(request, (JSON,))
        token = self._token(request)
        if token is not None:
            await self._delete_session(token)
        return json_response({"success": True}, cookies=self._cookies.cleared())

    async def get_session(self, request: Request) -> Response:
        """``GET get-session``: return session and user, or ``null``; an expired session is deleted."""
        token = self._token(request)
        if token is None:
            return json_response(None, headers=NO_CACHE)
        found = await self._database.read(lambda connection: find_session(connection, token))
        if found is not None and found[0].expires_at >= utc_now():
            session, user = found
            return json_response({"session": session.to_json(), "user": user.to_json()}, headers=NO_CACHE)
        if found is not None:
            await self._delete_session(token)
        return json_response(None, headers=NO_CACHE, cookies=self._cookies.cleared())

    async def _create_session(
        self, request: Request, credentials: Credentials | None, *, verified: bool, remember: bool
    ) -> tuple[User, Session]:
        user, ban_expired = admit(credentials, verified=verified, now=utc_now())
        session = new_session(
            user.id, remember=remember, ip_address=client_address(request), user_agent=user_agent(request)
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
    body = require_object(parsed)
    issues = [
        field_issue(body, "email"),
        field_issue(body, "password"),
        field_issue(body, "rememberMe", bool, optional=True),
    ]
    if any(issues):
        raise issues_error([issue for issue in issues if issue])
    email, password = check_email(str(body["email"])), str(body["password"])
    check_not_too_long(password)
    return email, password, body.get("rememberMe") is not False
