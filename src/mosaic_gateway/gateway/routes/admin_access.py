"""Who may do what at the endpoints of the admin plugin, checked before and within the transaction of a change."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import TypeVar

from psycopg import AsyncConnection
from starlette.requests import Request

from mosaic_gateway.auth import permissions
from mosaic_gateway.auth.errors import UserExistsError
from mosaic_gateway.auth.last_admin import lock_admins
from mosaic_gateway.gateway.database import Database
from mosaic_gateway.gateway.messages import ApiError
from mosaic_gateway.gateway.routes.fields import read_fields
from mosaic_gateway.gateway.signed_in import Visitor, Visitors

__all__ = ["PREFIX", "AdminAccess", "Permission", "read_user_id"]

T = TypeVar("T")
PREFIX = "/api/auth/admin"
READ, ADMIN = "read", "admin"  # scopes of API tokens


@dataclass(frozen=True, slots=True)
class Permission:
    """*action* on *resource* (`permissions`); *words* are those of better-auth's error, in its code and its message."""

    resource: str
    action: str
    words: str

    def check(self, visitor: Visitor) -> Visitor:
        """Return *visitor*. Raises `ApiError` (403) without the permission."""
        if permissions.has_permission(visitor.user.role, {self.resource: [self.action]}):
            return visitor
        code = "YOU_ARE_NOT_ALLOWED_TO_" + self.words.upper().replace(" ", "_")
        raise ApiError(403, code, f"You are not allowed to {self.words}")


class AdminAccess:
    """Reads who asks, and runs changes."""

    def __init__(self, database: Database, visitors: Visitors) -> None:
        self._database = database
        self._visitors = visitors

    async def identify(self, request: Request, scope: str = READ) -> Visitor:
        """Return who asks. Raises `ApiError`: 401, or 403 for an API token without *scope*."""
        visitor = await self._visitors.identify(request, scope)
        if visitor is None:
            raise _unauthorized()
        return visitor

    async def reads(self, request: Request, permission: Permission) -> Visitor:
        """Return who asks to read something. Raises `ApiError`: 401, 403."""
        return permission.check(await self.identify(request))

    async def administers(self, request: Request, permission: Permission) -> Visitor:
        """Return who asks to change something, before `change`. Raises `ApiError`: 401, 403."""
        return permission.check(await self.identify(request, ADMIN))

    async def change(
        self, request: Request, permission: Permission, change: Callable[[AsyncConnection, Visitor], Awaitable[T]]
    ) -> T:
        """Run *change* in one transaction, after the lock of `last_admin`, with who asks then.

        So of two admins who demote each other at once, the second is no admin any more. Raises `ApiError`: 401, 403.
        """
        await self.identify(request, ADMIN)  # extends the session, or records the use of the token

        async def run(connection: AsyncConnection) -> T:
            await lock_admins(connection)
            visitor = await self._visitors.identify_on(connection, request, ADMIN)
            return await change(connection, permission.check(visitor))

        try:
            return await self._database.write(run)
        except UserExistsError as error:
            code = "USER_ALREADY_EXISTS_USE_ANOTHER_EMAIL"
            raise ApiError(400, code, "User already exists. Use another email.") from error


def _unauthorized() -> ApiError:
    return ApiError(401, "", "")  # the plugin's answer has no body


async def read_user_id(request: Request) -> str:
    """Return ``userId`` of the body. Raises `ApiError` (400)."""
    fields = await read_fields(request)
    user_id = fields.identifier()
    fields.check()
    return user_id
