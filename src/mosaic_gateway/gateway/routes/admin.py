"""``/api/auth/admin``: users, as better-auth's admin plugin has them.

Body or query first, then who asks, then the permission, then the rest: the plugin's order. Stricter than the plugin: a
role is a name (`permissions.is_role`), a password has the usual length, and a user has a name.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timedelta

from psycopg import AsyncConnection
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from mosaic_gateway.auth import administration, permissions, user_search
from mosaic_gateway.auth.better_auth_format import utc_now
from mosaic_gateway.auth.passwords import check_length, hash_password
from mosaic_gateway.auth.users import NewUser, check_new_email
from mosaic_gateway.gateway.database import Database
from mosaic_gateway.gateway.messages import ApiError, issues_error, json_response
from mosaic_gateway.gateway.password_work import PasswordWork
from mosaic_gateway.gateway.routes import admin_fields
from mosaic_gateway.gateway.routes.admin_access import PREFIX, AdminAccess, Permission, read_user_id
from mosaic_gateway.gateway.routes.endpoint import endpoint_route
from mosaic_gateway.gateway.routes.fields import Fields, read_fields
from mosaic_gateway.gateway.signed_in import Visitor, actor_of

__all__ = ["AdminRoutes"]

LIST = Permission("user", "list", "list users")
GET = Permission("user", "get", "get user")
CREATE = Permission("user", "create", "create users")
UPDATE = Permission("user", "update", "update users")
SET_ROLE = Permission("user", "set-role", "change users role")
BAN = Permission("user", "ban", "ban users")
DELETE = Permission("user", "delete", "delete users")


class AdminRoutes:
    """The endpoints that list, create, change, ban and remove users."""

    def __init__(self, database: Database, passwords: PasswordWork, access: AdminAccess) -> None:
        self._database = database
        self._passwords = passwords
        self._access = access

    def routes(self) -> list[Route]:
        """Return the routes of the endpoints."""
        return [
            endpoint_route("GET", f"{PREFIX}/list-users", self.list_users),
            endpoint_route("GET", f"{PREFIX}/get-user", self.get_user),
            endpoint_route("POST", f"{PREFIX}/create-user", self.create_user),
            endpoint_route("POST", f"{PREFIX}/update-user", self.update_user),
            endpoint_route("POST", f"{PREFIX}/set-role", self.set_role),
            endpoint_route("POST", f"{PREFIX}/ban-user", self.ban_user),
            endpoint_route("POST", f"{PREFIX}/unban-user", self.unban_user),
            endpoint_route("POST", f"{PREFIX}/remove-user", self.remove_user),
        ]

    async def list_users(self, request: Request) -> Response:
        """``GET list-users``: search, filter, sort, page."""
        conditions, page, echo = admin_fields.search_of(request)
        await self._access.reads(request, LIST)
        found = await self._database.read(lambda connection: user_search.search_users(connection, conditions, page))
        if found is None:
            return json_response({"users": [], "total": 0})
        users, total = found
        return json_response({"users": [user.to_json() for user in users], "total": total, **echo})

    async def get_user(self, request: Request) -> Response:
        """``GET get-user?id=``: return a user."""
        query = Fields(dict(request.query_params), "query")
        user_id = query.text("id")
        query.check()
        await self._access.reads(request, GET)
        user = await self._database.read(lambda connection: administration.find_user(connection, user_id))
        return json_response(user.to_json())

    async def create_user(self, request: Request) -> Response:
        """``POST create-user``: create a user, without a password if none is given."""
        fields = await read_fields(request)
        email, name, role = fields.text("email"), fields.name(), fields.role(required=False)
        password, data = fields.optional_text("password"), fields.record("data", required=False)
        fields.check()
        await self._access.administers(request, CREATE)
        role = _checked_role(data.get("role", "user") if role is None else role)
        further = admin_fields.user_changes({key: data[key] for key in data if key not in ("role", "name", "email")})
        email = check_new_email(email)
        if password:
            check_length(password)
        password_hash = await self._passwords.run(request, hash_password, password) if password else None
        new = NewUser(name=name, email=email, password_hash=password_hash, role=role)

        async def create(connection: AsyncConnection, visitor: Visitor) -> dict[str, object]:
            actor = actor_of(request, visitor)
            return {"user": (await administration.create_user(connection, actor, new, **further)).to_json()}

        return json_response(await self._access.change(request, CREATE, create))

    async def update_user(self, request: Request) -> Response:
        """``POST update-user``: set fields of a user."""
        fields = await read_fields(request)
        user_id, data = fields.identifier(), fields.record("data")
        fields.check()
        await self._access.administers(request, UPDATE)
        changes = _update(data)

        async def update(connection: AsyncConnection, visitor: Visitor) -> dict[str, object]:
            if changes.get("banned") and user_id == visitor.user.id:
                raise ApiError(400, "YOU_CANNOT_BAN_YOURSELF", "You cannot ban yourself")
            actor = actor_of(request, visitor)
            return (await administration.change_user(connection, actor, user_id, changes)).to_json()

        return json_response(await self._access.change(request, UPDATE, update))

    async def set_role(self, request: Request) -> Response:
        """``POST set-role``: set the role, or several."""
        fields = await read_fields(request)
        user_id, given = fields.identifier(), fields.role()
        fields.check()

        async def set_role(connection: AsyncConnection, visitor: Visitor) -> dict[str, object]:
            role = _checked_role(given)
            user = await administration.set_role(connection, actor_of(request, visitor), user_id, role)
            return {"user": user.to_json()}

        return json_response(await self._access.change(request, SET_ROLE, set_role))

    async def ban_user(self, request: Request) -> Response:
        """``POST ban-user``: ban a user, for ``banExpiresIn`` seconds or for good, and end the user's sessions."""
        fields = await read_fields(request)
        user_id, reason = fields.identifier(), admin_fields.ban_reason(fields)
        expires = _expiry(fields)
        fields.check()

        async def ban(connection: AsyncConnection, visitor: Visitor) -> dict[str, object]:
            await administration.find_user(connection, user_id)
            if user_id == visitor.user.id:
                raise ApiError(400, "YOU_CANNOT_BAN_YOURSELF", "You cannot ban yourself")
            actor, why = actor_of(request, visitor), reason or administration.NO_REASON
            user = await administration.ban(connection, actor, user_id, reason=why, expires=expires)
            return {"user": user.to_json()}

        return json_response(await self._access.change(request, BAN, ban))

    async def unban_user(self, request: Request) -> Response:
        """``POST unban-user``: lift a ban."""
        user_id = await read_user_id(request)

        async def unban(connection: AsyncConnection, visitor: Visitor) -> dict[str, object]:
            return {"user": (await administration.unban(connection, actor_of(request, visitor), user_id)).to_json()}

        return json_response(await self._access.change(request, BAN, unban))

    async def remove_user(self, request: Request) -> Response:
        """``POST remove-user``: delete a user with everything that belongs to the user."""
        user_id = await read_user_id(request)

        async def remove(connection: AsyncConnection, visitor: Visitor) -> None:
            if user_id == visitor.user.id:
                raise ApiError(400, "YOU_CANNOT_REMOVE_YOURSELF", "You cannot remove yourself")
            await administration.remove_user(connection, actor_of(request, visitor), user_id)

        await self._access.change(request, DELETE, remove)
        return json_response({"success": True})


def _checked_role(role: object) -> str:
    if isinstance(role, list):
        role = ",".join(role) if all(isinstance(name, str) for name in role) else None
    if not isinstance(role, str):
        raise ApiError(400, "INVALID_ROLE_TYPE", "Invalid role type")
    if not permissions.is_role(role):
        code = "YOU_ARE_NOT_ALLOWED_TO_SET_NON_EXISTENT_VALUE"
        raise ApiError(400, code, "You are not allowed to set a non-existent role value")
    return role


def _update(data: Mapping[str, object]) -> dict[str, object]:
    """Return the columns that ``update-user`` sets. Raises `ApiError` and `InvalidEmailError`."""
    if not data:
        raise ApiError(400, "NO_DATA_TO_UPDATE", "No data to update")
    if "password" in data:
        message = "Password cannot be updated through update-user. Use the set-user-password endpoint instead"
        raise ApiError(400, "PASSWORD_CANNOT_BE_UPDATED_VIA_UPDATE_USER", message)
    if "id" in data:
        raise ApiError(400, "USER_ID_CANNOT_BE_UPDATED", "User id cannot be updated")
    role = {"role": _checked_role(data["role"])} if "role" in data else {}
    email = {"email": check_new_email(str(data["email"]))} if "email" in data else {}
    return {**role, **email, **admin_fields.user_changes(data)}


def _expiry(fields: Fields) -> datetime | None:
    seconds = fields.number("banExpiresIn")
    try:
        return utc_now() + timedelta(seconds=seconds) if seconds else None
    except OverflowError:
        raise issues_error(["[body.banExpiresIn] Too big"]) from None
