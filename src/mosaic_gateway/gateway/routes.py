"""The routes of the HTTP API.

``/api/auth``: sign-in, sign-out and the session, byte-compatible with better-auth. ``/api/bootstrap``: status of the
set-up, and creation of the first admin. ``/healthz`` (the process answers) and ``/readyz`` (database and schema are
available too).
"""

from __future__ import annotations

import asyncio

from psycopg import AsyncConnection
from starlette.requests import Request
from starlette.responses import Response

from mosaic_gateway.auth import setup
from mosaic_gateway.auth.better_auth_format import utc_now
from mosaic_gateway.auth.cookies import Cookies
from mosaic_gateway.auth.errors import DatabaseUnavailableError, InvalidNameError
from mosaic_gateway.auth.passwords import Hasher, check_length, check_not_too_long, verify_password
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
from mosaic_gateway.auth.users import NewUser, User, check_email, check_name, check_new_email, prepare_user
from mosaic_gateway.gateway import messages
from mosaic_gateway.gateway.database import Database

__all__ = ["AuthRoutes", "BootstrapRoutes", "HealthRoutes"]

NO_CACHE = {"pragma": "no-cache"}
TOKEN_HEADER = "x-setup-token"  # noqa: S105 - a header's name
HAS_SCHEMA = "SELECT to_regclass('users') IS NOT NULL AND to_regclass('storage_documents') IS NOT NULL"


class AuthRoutes:
    """The endpoints sign-in, sign-out and get-session."""

    def __init__(self, database: Database, hasher: Hasher, cookies: Cookies) -> None:
        self._database = database
        self._hasher = hasher
        self._cookies = cookies

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


class BootstrapRoutes:
    """The endpoints status and setup.

    Concurrent set-ups in this process run one after another, so that those that fail compute no password hash.
    """

    def __init__(self, database: Database, hasher: Hasher, cookies: Cookies) -> None:
        self._database = database
        self._hasher = hasher
        self._cookies = cookies
        self._setup_lock = asyncio.Lock()

    async def status(self, _request: Request) -> Response:
        """``GET status``: return ``{"needsSetup": bool}``."""
        return messages.json_response({"needsSetup": await self._database.read(setup.needs_setup)})

    async def setup(self, request: Request) -> Response:
        """``POST setup``: create the first admin (201) and sign in. Checks the body, then the state, then the token."""
        body = messages.require_object(await messages.read_body(request, (messages.JSON,)))
        name, email, password = _fields(body)
        token = _token(request, body)

        async def check(connection: AsyncConnection) -> None:
            await setup.check_claim(connection, token)

        await self._database.read(check)
        async with self._setup_lock:
            await self._database.read(check)
            new = await self._hasher.run(prepare_user, name, email, password, "admin")
            user, session = await self._claim(request, new, token)
        return messages.json_response(
            {"user": user.to_json()}, status=201, cookies=self._cookies.signed_in(session.token, remember=True)
        )

    async def _claim(self, request: Request, new: NewUser, token: str | None) -> tuple[User, Session]:
        address, agent = messages.client_address(request), messages.user_agent(request)

        async def claim(connection: AsyncConnection) -> tuple[User, Session]:
            user = await setup.claim_first_admin(connection, new, token=token, ip_address=address or None)
            session = new_session(user.id, ip_address=address, user_agent=agent)
            await insert_session(connection, session)
            return user, session

        return await self._database.write(claim)


def _fields(body: dict[str, object]) -> tuple[str, str, str]:
    """Return name, e-mail and password, after every check that needs neither database nor hashing."""
    issues = [issue for field in ("name", "email", "password") if (issue := messages.field_issue(body, field))]
    if issues:
        raise messages.issues_error(issues)
    name, email, password = str(body["name"]), str(body["email"]), str(body["password"])
    try:
        check_name(name)
    except InvalidNameError as error:
        raise messages.issues_error([f"[body.name] Invalid input: {error.hint!s}"]) from error
    check_new_email(email)
    check_length(password)
    return name, email, password


def _token(request: Request, body: dict[str, object]) -> str | None:
    value = request.headers.get(TOKEN_HEADER) or body.get("token")
    return value if isinstance(value, str) and value else None


class HealthRoutes:
    """The endpoints healthz and readyz of the gateway *instance_id*."""

    def __init__(self, database: Database, *, version: str, instance_id: str | None) -> None:
        self._database = database
        self._identity = {"version": version, "instanceId": instance_id}

    async def healthz(self, _request: Request) -> Response:
        """``GET /healthz``: return 200 with version and instance, without a database query."""
        return messages.json_response({"status": "ok", **self._identity})

    async def readyz(self, _request: Request) -> Response:
        """``GET /readyz``: return 200, or 503 with what is unavailable."""
        try:
            database, schema = True, await self._database.read(_has_schema)
        except DatabaseUnavailableError:
            database = schema = False
        ready = database and schema
        body = {"status": "ready" if ready else "unavailable", "database": database, "schema": schema}
        return messages.json_response(
            {**body, **self._identity}, status=200 if ready else 503, headers=None if ready else {"retry-after": "1"}
        )


async def _has_schema(connection: AsyncConnection) -> bool:
    row = await (await connection.execute(HAS_SCHEMA)).fetchone()
    return bool(row and row[0])
