"""``/api/auth/admin``: sessions, passwords and permissions of users, as better-auth's admin plugin has them.

Stricter than the plugin: a new password ends the user's sessions.
"""

from __future__ import annotations

from datetime import datetime

from psycopg import AsyncConnection
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from mosaic_gateway.auth import administration, permissions, reset_tokens, session_list
from mosaic_gateway.auth.better_auth_format import iso
from mosaic_gateway.auth.passwords import check_length, hash_password
from mosaic_gateway.gateway.database import Database
from mosaic_gateway.gateway.messages import json_response
from mosaic_gateway.gateway.password_work import PasswordWork
from mosaic_gateway.gateway.routes.admin_access import PREFIX, AdminAccess, Permission, read_user_id
from mosaic_gateway.gateway.routes.admin_fields import permission_request
from mosaic_gateway.gateway.routes.endpoint import endpoint_route
from mosaic_gateway.gateway.routes.fields import Fields, read_fields
from mosaic_gateway.gateway.signed_in import Visitor, actor_of

__all__ = ["AdminCredentialRoutes"]

BEGINNING = datetime(1970, 1, 1)  # noqa: DTZ001 - UTC without zone, as in the tables
LIST_SESSIONS = Permission("session", "list", "list users sessions")
REVOKE_SESSIONS = Permission("session", "revoke", "revoke users sessions")
SET_PASSWORD = Permission("user", "set-password", "set users password")


class AdminCredentialRoutes:
    """The endpoints of sessions, passwords and permissions; ``create-reset-link`` is the gateway's own."""

    def __init__(self, database: Database, passwords: PasswordWork, access: AdminAccess, base_url: str) -> None:
        self._database = database
        self._passwords = passwords
        self._access = access
        self._base_url = base_url

    def routes(self) -> list[Route]:
        """Return the routes of the endpoints."""
        return [
            endpoint_route("POST", f"{PREFIX}/set-user-password", self.set_user_password),
            endpoint_route("POST", f"{PREFIX}/create-reset-link", self.create_reset_link),
            endpoint_route("POST", f"{PREFIX}/list-user-sessions", self.list_user_sessions),
            endpoint_route("POST", f"{PREFIX}/revoke-user-session", self.revoke_user_session),
            endpoint_route("POST", f"{PREFIX}/revoke-user-sessions", self.revoke_user_sessions),
            endpoint_route("POST", f"{PREFIX}/has-permission", self.has_permission),
        ]

    async def set_user_password(self, request: Request) -> Response:
        """``POST set-user-password``: set a password and end the user's sessions, except this one."""
        fields = await read_fields(request)
        password, user_id = fields.text("newPassword"), fields.identifier()
        _not_empty(fields, newPassword=password, userId=user_id)
        fields.check()
        await self._access.administers(request, SET_PASSWORD)
        check_length(password)
        await self._database.read(lambda connection: administration.find_user(connection, user_id))
        password_hash = await self._passwords.run(request, hash_password, password)

        async def set_password(connection: AsyncConnection, visitor: Visitor) -> None:
            keep = visitor.session.token if visitor.session else None
            await administration.set_password(
                connection, actor_of(request, visitor), user_id, password_hash, keep_session=keep
            )

        await self._access.change(request, SET_PASSWORD, set_password)
        return json_response({"status": True})

    async def create_reset_link(self, request: Request) -> Response:
        """``POST create-reset-link``: return a link with which the user sets a new password, once, within 24 hours."""
        user_id = await read_user_id(request)

        async def issue(connection: AsyncConnection, visitor: Visitor) -> dict[str, object]:
            token = await administration.issue_reset_link(connection, actor_of(request, visitor), user_id)
            return {"url": reset_tokens.reset_url(self._base_url, token), "expiresAt": iso(token.expires_at)}

        return json_response(await self._access.change(request, SET_PASSWORD, issue))

    async def list_user_sessions(self, request: Request) -> Response:
        """``POST list-user-sessions``: return a user's sessions, expired ones too."""
        user_id = await read_user_id(request)
        await self._access.administers(request, LIST_SESSIONS)
        found = await self._database.read(
            lambda connection: session_list.list_sessions(connection, user_id, since=BEGINNING)
        )
        return json_response({"sessions": [session.to_json() for session in found]})

    async def revoke_user_session(self, request: Request) -> Response:
        """``POST revoke-user-session``: end a session, if there is one with this token."""
        fields = await read_fields(request)
        token = fields.text("sessionToken")
        fields.check()

        async def revoke(connection: AsyncConnection, visitor: Visitor) -> None:
            await session_list.revoke_session(connection, actor_of(request, visitor), token)

        await self._access.change(request, REVOKE_SESSIONS, revoke)
        return json_response({"success": True})

    async def revoke_user_sessions(self, request: Request) -> Response:
        """``POST revoke-user-sessions``: end all sessions of a user."""
        user_id = await read_user_id(request)

        async def revoke(connection: AsyncConnection, visitor: Visitor) -> None:
            await session_list.revoke_sessions(connection, actor_of(request, visitor), user_id)

        await self._access.change(request, REVOKE_SESSIONS, revoke)
        return json_response({"success": True})

    async def has_permission(self, request: Request) -> Response:
        """``POST has-permission``: whether who asks has ``permissions``."""
        asked = await permission_request(request)
        visitor = await self._access.identify(request)
        allowed = permissions.has_permission(visitor.user.role, asked)
        return json_response({"error": None, "success": allowed})


def _not_empty(fields: Fields, **values: str) -> None:
    for name, value in values.items():
        if value == "" and isinstance(fields.values.get(name), str):
            fields.refuse(name, f"{name} cannot be empty")
