"""``/api/auth``: what a signed-in user does with the own account, in better-auth's shapes.

Body first, then the session, then the rest: better-auth's order. A change reads the session again in its transaction,
so a session that is revoked during a request changes nothing.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TypeVar

from psycopg import AsyncConnection
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from mosaic_gateway.auth import administration, session_list
from mosaic_gateway.auth.better_auth_format import utc_now
from mosaic_gateway.auth.cookies import Cookies
from mosaic_gateway.auth.errors import UserExistsError
from mosaic_gateway.gateway.database import Database
from mosaic_gateway.gateway.messages import JSON, ApiError, json_response, read_body
from mosaic_gateway.gateway.routes.endpoint import endpoint_route
from mosaic_gateway.gateway.routes.fields import read_fields
from mosaic_gateway.gateway.routes.passwords import PasswordCheck
from mosaic_gateway.gateway.signed_in import SignedIn, Visitors, actor_of, require_fresh

__all__ = ["AccountRoutes"]

T = TypeVar("T")

#: Fields of a user that only an admin sets.
PROTECTED = ("role", "banned", "banReason", "banExpires")
STATUS = {"status": True}


class AccountRoutes:
    """The endpoints of the own account: sessions, name and image, e-mail address, deletion.

    With *email_is_identity* services behind the gateway know people by their addresses, which only admins change then.
    """

    def __init__(
        self,
        database: Database,
        cookies: Cookies,
        visitors: Visitors,
        passwords: PasswordCheck,
        *,
        email_is_identity: bool = False,
    ) -> None:
        self._database = database
        self._passwords = passwords
        self._cookies = cookies
        self._visitors = visitors
        self._email_is_identity = email_is_identity

    def routes(self) -> list[Route]:
        """Return the routes of the endpoints."""
        return [
            endpoint_route("GET", "/api/auth/list-sessions", self.list_sessions),
            endpoint_route("POST", "/api/auth/revoke-session", self.revoke_session),
            endpoint_route("POST", "/api/auth/revoke-sessions", self.revoke_sessions),
            endpoint_route("POST", "/api/auth/revoke-other-sessions", self.revoke_other_sessions),
            endpoint_route("POST", "/api/auth/update-user", self.update_user),
            endpoint_route("POST", "/api/auth/change-email", self.change_email),
            endpoint_route("POST", "/api/auth/delete-user", self.delete_user),
        ]

    async def list_sessions(self, request: Request) -> Response:
        """``GET list-sessions``: the own sessions; needs a session that began within the last 24 hours."""
        signed_in = await self._visitors.require(request)
        require_fresh(signed_in)
        found = await self._database.read(
            lambda connection: session_list.list_sessions(connection, signed_in.user.id, since=utc_now())
        )
        return json_response([session.to_json() for session in found if not session.impersonated_by])

    async def revoke_session(self, request: Request) -> Response:
        """``POST revoke-session``: end one of the own sessions; another user's is left alone, with the same answer."""
        fields = await read_fields(request)
        token = fields.text("token")
        fields.check()
        await self._visitors.require(request)

        async def revoke(connection: AsyncConnection, signed_in: SignedIn) -> bool:
            actor, user_id = actor_of(request, signed_in), signed_in.user.id
            await session_list.revoke_session(
                connection, actor, token, user_id=user_id, action="account.revoke-session"
            )
            return token == signed_in.session.token

        own = await self._change(request, revoke)
        return json_response(STATUS, cookies=self._cookies.cleared() if own else [])

    async def revoke_sessions(self, request: Request) -> Response:
        """``POST revoke-sessions``: end all of the own sessions, this one too."""
        await read_body(request, (JSON,))
        await self._visitors.require(request)

        async def revoke(connection: AsyncConnection, signed_in: SignedIn) -> None:
            actor, user_id = actor_of(request, signed_in), signed_in.user.id
            await session_list.revoke_sessions(connection, actor, user_id, action="account.revoke-sessions")

        await self._change(request, revoke)
        return json_response(STATUS, cookies=self._cookies.cleared())

    async def revoke_other_sessions(self, request: Request) -> Response:
        """``POST revoke-other-sessions``: end all of the own sessions except this one."""
        await read_body(request, (JSON,))
        await self._visitors.require(request)

        async def revoke(connection: AsyncConnection, signed_in: SignedIn) -> None:
            actor, session = actor_of(request, signed_in), signed_in.session
            await session_list.revoke_sessions(
                connection, actor, session.user_id, keep=session.token, action="account.revoke-other-sessions"
            )

        await self._change(request, revoke)
        return json_response(STATUS)

    async def update_user(self, request: Request) -> Response:
        """``POST update-user``: set name and image."""
        fields = await read_fields(request, expected="record")
        signed_in = await self._visitors.require(request)
        body = fields.values
        if body.get("email"):
            raise ApiError(400, "EMAIL_CAN_NOT_BE_UPDATED", "Email can not be updated")
        for name in PROTECTED:
            if body.get(name):
                raise ApiError(400, "FIELD_NOT_ALLOWED", f"{name} is not allowed to be set")
        changes: dict[str, object] = {"name": fields.name()} if fields.has("name") else {}
        if fields.has("image"):
            changes["image"] = fields.image()
        fields.check()
        if not changes:
            raise ApiError(400, "", "No fields to update")

        async def update(connection: AsyncConnection, signed_in: SignedIn) -> None:
            actor, user_id = actor_of(request, signed_in), signed_in.user.id
            await administration.change_user(connection, actor, user_id, changes, action="account.update")

        await self._change(request, update)
        return json_response(STATUS, cookies=self._renewed(request, signed_in.session.token))

    async def change_email(self, request: Request) -> Response:
        """``POST change-email``: set another address, if the present one is not verified (there is no mail server).

        As in better-auth, an address that another user has gets the same answer, and nothing is changed.
        """
        fields = await read_fields(request)
        email = fields.email("newEmail")
        fields.optional_text("callbackURL")
        fields.check()
        signed_in = await self._visitors.require(request)
        await self._passwords.limit(request)
        if self._email_is_identity:
            message = "Services know you by this address. An admin can change it."
            raise ApiError(403, "EMAIL_IS_IDENTITY", message)
        if email == signed_in.user.email:
            raise ApiError(400, "", "Email is the same")
        if signed_in.user.email_verified:
            raise ApiError(400, "", "Verification email isn't enabled")

        async def change(connection: AsyncConnection, signed_in: SignedIn) -> None:
            actor, user_id = actor_of(request, signed_in), signed_in.user.id
            changes = {"email": email}
            await administration.change_user(connection, actor, user_id, changes, action="account.change-email")

        try:
            await self._change(request, change)
        except UserExistsError:
            return json_response(STATUS)
        return json_response(STATUS, cookies=self._renewed(request, signed_in.session.token))

    async def delete_user(self, request: Request) -> Response:
        """``POST delete-user``: delete the own account, with the password or a session not older than 24 hours."""
        fields = await read_fields(request)
        fields.optional_text("callbackURL")
        password, token = fields.optional_text("password"), fields.optional_text("token")
        fields.check()
        signed_in = await self._visitors.require(request)
        if password:
            await self._passwords.require(request, signed_in.user, password)
        if token:  # only better-auth's e-mails contain one
            raise ApiError(404, "INVALID_TOKEN", "Invalid token")
        if not password and not signed_in.is_fresh:
            raise ApiError(400, "SESSION_EXPIRED", "Session expired. Re-authenticate to perform this action.")

        async def delete(connection: AsyncConnection, signed_in: SignedIn) -> None:
            actor, user_id = actor_of(request, signed_in), signed_in.user.id
            await administration.remove_user(connection, actor, user_id, action="account.delete")

        await self._change(request, delete)
        return json_response({"success": True, "message": "User deleted"}, cookies=self._cookies.cleared())

    async def _change(self, request: Request, change: Callable[[AsyncConnection, SignedIn], Awaitable[T]]) -> T:
        """Run *change* in one transaction with who is signed in at its beginning."""

        async def run(connection: AsyncConnection) -> T:
            return await change(connection, await self._visitors.require_on(connection, request))

        return await self._database.write(run)

    def _renewed(self, request: Request, token: str) -> list[str]:
        return self._cookies.signed_in(token, remember=not self._cookies.dont_remember(request.headers.get("cookie")))
