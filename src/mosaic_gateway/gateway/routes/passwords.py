"""``/api/auth``: change, verify and reset a password, in better-auth's shapes.

There is no mail server: an admin issues the link with which a user sets a new password (``create-reset-link``).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import ParamSpec, TypeVar

from psycopg import AsyncConnection
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from mosaic_gateway.auth import administration, own_account, reset_tokens
from mosaic_gateway.auth.cookies import Cookies
from mosaic_gateway.auth.errors import UserNotFoundError
from mosaic_gateway.auth.passwords import check_length, check_not_too_long, hash_password, verify_password
from mosaic_gateway.auth.sessions import Session, new_session
from mosaic_gateway.auth.users import User
from mosaic_gateway.gateway.database import Database
from mosaic_gateway.gateway.messages import ApiError, client_address, json_response, user_agent
from mosaic_gateway.gateway.protection import Protection
from mosaic_gateway.gateway.routes.endpoint import endpoint_route
from mosaic_gateway.gateway.routes.fields import read_fields
from mosaic_gateway.gateway.signed_in import Visitors, actor_of

__all__ = ["PasswordCheck", "PasswordRoutes"]

P = ParamSpec("P")
T = TypeVar("T")


class PasswordCheck:
    """Compares a password with the stored hash of a user who is signed in; attempts are limited as at sign-in."""

    def __init__(self, database: Database, protection: Protection) -> None:
        self._database = database
        self._protection = protection

    async def run(self, request: Request, work: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Return the result of *work*, which computes a hash."""
        return await self._protection.passwords.run(request, work, *args, **kwargs)

    async def limit(self, request: Request) -> None:
        """Count *request*, three in ten seconds for each address and path. Raises `ApiError` (429)."""
        await self._protection.limits.require(request, _path(request))

    async def require(self, request: Request, user: User, password: str) -> str:
        """Return the stored hash of *user* if it is one of *password*.

        Attempts are counted for the address and, as at sign-in, for the account: with a stolen session alone its
        password cannot be guessed from many addresses.

        Raises `ApiError` (400 INVALID_PASSWORD or CREDENTIAL_ACCOUNT_NOT_FOUND, 429) and `PasswordTooLongError`.
        """
        check_not_too_long(password)
        limits, path = self._protection.limits, _path(request)
        attempts = await limits.require(request, path, email=user.email)
        stored = await self._database.read(lambda connection: own_account.find_password_hash(connection, user.id))
        if stored is None:
            raise ApiError(400, "CREDENTIAL_ACCOUNT_NOT_FOUND", "Credential account not found")
        if not await self.run(request, verify_password, stored, password):
            await self._protection.record.check_failed(request, "INVALID_PASSWORD", user.id)
            raise _invalid_password()
        await self._database.write(lambda connection: limits.succeeded(connection, path, attempts))
        return stored


def _path(request: Request) -> str:
    return request.url.path.removeprefix("/api/auth")


class PasswordRoutes:
    """The endpoints change-password, verify-password, reset-password and request-password-reset."""

    def __init__(self, database: Database, cookies: Cookies, visitors: Visitors, check: PasswordCheck) -> None:
        self._database = database
        self._cookies = cookies
        self._visitors = visitors
        self._check = check

    def routes(self) -> list[Route]:
        """Return the routes of the endpoints."""
        return [
            endpoint_route("POST", "/api/auth/change-password", self.change_password),
            endpoint_route("POST", "/api/auth/verify-password", self.verify_password),
            endpoint_route("POST", "/api/auth/reset-password", self.reset_password),
            endpoint_route("POST", "/api/auth/request-password-reset", self.request_password_reset),
        ]

    async def change_password(self, request: Request) -> Response:
        """``POST change-password``: set a new password; ``revokeOtherSessions`` gives a new session and ends all."""
        fields = await read_fields(request)
        new, current = fields.text("newPassword"), fields.text("currentPassword")
        revoke_others = fields.flag("revokeOtherSessions")
        fields.check()
        user = (await self._visitors.require(request)).user
        check_length(new)
        verified_hash = await self._check.require(request, user, current)
        password_hash = await self._check.run(request, hash_password, new)
        replacement = self._new_session(request, user) if revoke_others else None

        async def change(connection: AsyncConnection) -> bool:
            signed_in = await self._visitors.require_on(connection, request)
            return await own_account.change_password(
                connection,
                actor_of(request, signed_in),
                user.id,
                verified_hash=verified_hash,
                password_hash=password_hash,
                replacement=replacement,
            )

        if not await self._database.write(change):
            raise _invalid_password()
        token = replacement.token if replacement else None
        cookies = self._cookies.signed_in(token, remember=self._remembers(request)) if token else []
        return json_response({"token": token, "user": user.to_json()}, cookies=cookies)

    async def verify_password(self, request: Request) -> Response:
        """``POST verify-password``: check the password of who is signed in."""
        fields = await read_fields(request)
        password = fields.text("password")
        fields.check()
        user = (await self._visitors.require(request)).user
        try:
            await self._check.require(request, user, password)
        except ApiError as error:
            if error.code != "CREDENTIAL_ACCOUNT_NOT_FOUND":
                raise
            raise _invalid_password() from error
        return json_response({"status": True})

    async def reset_password(self, request: Request) -> Response:
        """``POST reset-password``: set the password with the token of a link, once, and end the user's sessions.

        A token that is not valid costs no password hash.
        """
        fields = await read_fields(request)
        password = fields.text("newPassword")
        token = fields.optional_text("token") or request.query_params.get("token")
        fields.check()
        if not token:
            raise _invalid_token()
        check_length(password)
        if await self._database.read(lambda connection: reset_tokens.find_user_id(connection, token)) is None:
            raise _invalid_token()
        password_hash = await self._check.run(request, hash_password, password)
        address = client_address(request) or None

        async def reset(connection: AsyncConnection) -> str | None:
            return await administration.reset_password(connection, token, password_hash, ip_address=address)

        try:
            if await self._database.write(reset) is None:
                raise _invalid_token()
        except UserNotFoundError as error:
            raise ApiError(400, error.code, "User not found") from error
        return json_response({"status": True})

    async def request_password_reset(self, request: Request) -> Response:
        """``POST request-password-reset``: refused, as by a better-auth that cannot send e-mail."""
        fields = await read_fields(request)
        fields.email("email")
        fields.optional_text("redirectTo")
        fields.check()
        raise ApiError(400, "RESET_PASSWORD_DISABLED", "Reset password isn't enabled")

    def _new_session(self, request: Request, user: User) -> Session:
        return new_session(
            user.id,
            remember=self._remembers(request),
            ip_address=client_address(request),
            user_agent=user_agent(request),
        )

    def _remembers(self, request: Request) -> bool:
        return not self._cookies.dont_remember(request.headers.get("cookie"))


def _invalid_password() -> ApiError:
    return ApiError(400, "INVALID_PASSWORD", "Invalid password")


def _invalid_token() -> ApiError:
    return ApiError(400, "INVALID_TOKEN", "Invalid token")
