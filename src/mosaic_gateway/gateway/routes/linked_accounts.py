"""``/api/auth``: linked accounts, social sign-in, verification of addresses, as better-auth without providers and mail.

Accounts of other providers exist only in a database that a better-auth with providers has used.
"""

from __future__ import annotations

from psycopg import AsyncConnection
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from mosaic_gateway.auth import own_account
from mosaic_gateway.gateway.database import Database
from mosaic_gateway.gateway.messages import ApiError, json_response
from mosaic_gateway.gateway.routes.endpoint import endpoint_route
from mosaic_gateway.gateway.routes.fields import Fields, read_fields
from mosaic_gateway.gateway.signed_in import Visitors, actor_of, require_fresh

__all__ = ["LinkedAccountRoutes"]


class LinkedAccountRoutes:
    """The endpoints list-accounts and unlink-account, and those that need a provider or a mail server."""

    def __init__(self, database: Database, visitors: Visitors) -> None:
        self._database = database
        self._visitors = visitors

    def routes(self) -> list[Route]:
        """Return the routes of the endpoints."""
        return [
            endpoint_route("GET", "/api/auth/list-accounts", self.list_accounts),
            endpoint_route("POST", "/api/auth/unlink-account", self.unlink_account),
            endpoint_route("POST", "/api/auth/link-social", self.link_social),
            endpoint_route("POST", "/api/auth/sign-in/social", self.sign_in_social),
            endpoint_route("POST", "/api/auth/update-session", self.update_session),
            endpoint_route("POST", "/api/auth/send-verification-email", self.send_verification_email),
            endpoint_route("GET", "/api/auth/verify-email", self.verify_email),
            endpoint_route("GET", "/api/auth/delete-user/callback", self.delete_user_callback),
        ]

    async def list_accounts(self, request: Request) -> Response:
        """``GET list-accounts``: the ways in which who is signed in may sign in."""
        user = (await self._visitors.require(request)).user
        found = await self._database.read(lambda connection: own_account.list_accounts(connection, user.id))
        return json_response([account.to_json() for account in found])

    async def unlink_account(self, request: Request) -> Response:
        """``POST unlink-account``: delete one of the ways to sign in, but not the last."""
        fields = await read_fields(request)
        account_id = fields.text("accountId")
        fields.check()
        require_fresh(await self._visitors.require(request))

        async def unlink(connection: AsyncConnection) -> None:
            signed_in = await self._visitors.require_on(connection, request)
            accounts = await own_account.list_accounts(connection, signed_in.user.id, lock=True)
            if len(accounts) == 1:
                raise ApiError(400, "FAILED_TO_UNLINK_LAST_ACCOUNT", "You can't unlink your last account")
            if account_id not in {account.id for account in accounts}:
                raise ApiError(400, "ACCOUNT_NOT_FOUND", "Account not found")
            await own_account.delete_account(connection, actor_of(request, signed_in), signed_in.user.id, account_id)

        await self._database.write(unlink)
        return json_response({"status": True})

    async def link_social(self, request: Request) -> Response:
        """``POST link-social``: 404, as there is no provider."""
        await _check_provider(request)
        await self._visitors.require(request)
        raise _no_provider()

    async def sign_in_social(self, request: Request) -> Response:
        """``POST sign-in/social``: 404, as there is no provider."""
        await _check_provider(request)
        raise _no_provider()

    async def update_session(self, request: Request) -> Response:
        """``POST update-session``: 400, as sessions have no fields of an application."""
        await read_fields(request, expected="record")
        await self._visitors.require(request)
        raise ApiError(400, "", "No fields to update")

    async def send_verification_email(self, request: Request) -> Response:
        """``POST send-verification-email``: 400, as there is no mail server."""
        fields = await read_fields(request)
        fields.email("email")
        fields.check()
        raise ApiError(400, "VERIFICATION_EMAIL_NOT_ENABLED", "Verification email isn't enabled")

    async def verify_email(self, request: Request) -> Response:
        """``GET verify-email``: 401, as no token was ever sent."""
        _check_token(request)
        raise ApiError(401, "INVALID_TOKEN", "Invalid token")

    async def delete_user_callback(self, request: Request) -> Response:
        """``GET delete-user/callback``: 404, as no token was ever sent."""
        _check_token(request)
        if await self._visitors.find(request) is None:
            raise ApiError(404, "FAILED_TO_GET_USER_INFO", "Failed to get user info")
        raise ApiError(404, "INVALID_TOKEN", "Invalid token")


async def _check_provider(request: Request) -> None:
    fields = await read_fields(request)
    if not isinstance(fields.values.get("provider"), str):
        fields.refuse("provider", "Invalid input")
    fields.check()


def _check_token(request: Request) -> None:
    query = Fields(dict(request.query_params), "query")
    query.text("token")
    query.check()


def _no_provider() -> ApiError:
    return ApiError(404, "PROVIDER_NOT_FOUND", "Provider not found")
