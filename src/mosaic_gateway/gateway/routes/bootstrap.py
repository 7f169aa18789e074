"""``/api/bootstrap``: status of the set-up, and creation of the first admin."""

from __future__ import annotations

import asyncio

from psycopg import AsyncConnection
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from mosaic_gateway.auth import setup
from mosaic_gateway.auth.cookies import Cookies
from mosaic_gateway.auth.errors import InvalidNameError, SetupTokenError
from mosaic_gateway.auth.passwords import check_length
from mosaic_gateway.auth.sessions import Session, insert_session, new_session
from mosaic_gateway.auth.users import NewUser, User, check_name, check_new_email, prepare_user
from mosaic_gateway.gateway import messages
from mosaic_gateway.gateway.database import Database
from mosaic_gateway.gateway.protection import Protection
from mosaic_gateway.gateway.routes.endpoint import endpoint_route

__all__ = ["BootstrapRoutes"]

SETUP_PATH = "/bootstrap/setup"  # below /api, as its requests are counted
TOKEN_HEADER = "x-setup-token"  # noqa: S105 - a header's name


class BootstrapRoutes:
    """The endpoints status, link and setup.

    Concurrent set-ups in this process run one after another, so that those that fail compute no password hash.
    """

    def __init__(self, database: Database, cookies: Cookies, protection: Protection) -> None:
        self._database = database
        self._cookies = cookies
        self._protection = protection
        self._setup_lock = asyncio.Lock()

    def routes(self) -> list[Route]:
        """Return the routes of the endpoints."""
        return [
            endpoint_route("GET", "/api/bootstrap/status", self.status),
            endpoint_route("POST", "/api/bootstrap/link", self.link),
            endpoint_route("POST", "/api/bootstrap/setup", self.setup),
        ]

    async def status(self, _request: Request) -> Response:
        """``GET status``: return ``{"needsSetup": bool}``."""
        return messages.json_response({"needsSetup": await self._database.read(setup.needs_setup)})

    async def link(self, request: Request) -> Response:
        """``POST link``: return ``{"state": …}`` of the link with the token (`LinkState`), which stays valid."""
        token = request.headers.get(TOKEN_HEADER) or None
        state = await self._database.read(lambda connection: setup.link_state(connection, token))
        return messages.json_response({"state": state})

    async def setup(self, request: Request) -> Response:
        """``POST setup``: create the first admin (201) and sign in. Checks body, limit, state and token in turn."""
        body = messages.require_object(await messages.read_body(request, (messages.JSON,)))
        name, email, password = _fields(body)
        token = _token(request, body)

        async def check(connection: AsyncConnection) -> None:
            await setup.check_claim(connection, token)

        await self._protection.limits.require(request, SETUP_PATH)
        try:
            await self._database.read(check)
            async with self._setup_lock:
                await self._database.read(check)
                new = await self._protection.passwords.run(request, prepare_user, name, email, password, "admin")
                user, session = await self._claim(request, new, token)
        except SetupTokenError as error:
            await self._protection.record.failed(request, error.code)
            raise
        cookies = [*self._cookies.signed_in(session.token, remember=True), self._protection.devices.cookie(user.email)]
        return messages.json_response({"user": user.to_json()}, status=201, cookies=cookies)

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
