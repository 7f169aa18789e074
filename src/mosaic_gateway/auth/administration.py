"""What an admin or the command line does to a user: find, create, change, ban, remove, set the password.

Every function runs in the caller's transaction, and every change is recorded in the audit log with its `Actor`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from datetime import datetime
from typing import Any, LiteralString

import psycopg
from psycopg import AsyncConnection, sql
from psycopg.rows import class_row

from mosaic_gateway.auth import reset_tokens, setup
from mosaic_gateway.auth.audit import Actor, record
from mosaic_gateway.auth.better_auth_format import iso, utc_now
from mosaic_gateway.auth.errors import UserExistsError, UserNotFoundError
from mosaic_gateway.auth.last_admin import check_admin_remains, lock_admins
from mosaic_gateway.auth.reset_tokens import ResetToken
from mosaic_gateway.auth.session_list import delete_sessions
from mosaic_gateway.auth.users import COLUMNS, NewUser, User, store_password_hash
from mosaic_gateway.hint import command

__all__ = [
    "NO_REASON",
    "ban",
    "change_user",
    "create_user",
    "find_user",
    "find_user_by_email",
    "issue_reset_link",
    "remove_user",
    "reset_password",
    "set_password",
    "set_role",
    "unban",
]

FIND: LiteralString = f"SELECT {COLUMNS} FROM users u WHERE u.id = %s"  # noqa: S608 - constants only
FIND_BY_EMAIL: LiteralString = f"SELECT {COLUMNS} FROM users u WHERE u.email = %s"  # noqa: S608 - constants only
REMOVE = "DELETE FROM users WHERE id = %s"  # sessions, accounts and tokens follow (ON DELETE CASCADE)
NO_REASON = "No reason"  # better-auth's default


async def find_user(connection: AsyncConnection, user_id: str) -> User:
    """Return the user with *user_id*. Raises `UserNotFoundError`."""
    return _found(await _find(connection, FIND, user_id), "User not found")


async def find_user_by_email(connection: AsyncConnection, email: str) -> User:
    """Return the user with the address *email* in any case. Raises `UserNotFoundError`."""
    return _found(await _find(connection, FIND_BY_EMAIL, email.lower()), f"No user with the e-mail address {email!r}")


async def create_user(connection: AsyncConnection, actor: Actor, new: NewUser, **further: Any) -> User:
    """Insert *new*, with *further* columns of ``users``. Raises `UserExistsError`."""
    user = await setup.create_user(connection, new, actor_id=actor.user_id, ip_address=actor.ip_address)
    return await _update(connection, user, further) if further else user


async def set_role(connection: AsyncConnection, actor: Actor, user_id: str, role: str) -> User:
    """Set the *role*. Raises `UserNotFoundError` and `LastAdminError`."""
    return await change_user(connection, actor, user_id, {"role": role}, action="user.set-role")


async def ban(
    connection: AsyncConnection, actor: Actor, user_id: str, *, reason: str = NO_REASON, expires: datetime | None = None
) -> User:
    """Ban a user until *expires* (UTC without zone, None: for good) and delete the user's sessions.

    Raises `UserNotFoundError` and `LastAdminError`.
    """
    changes = {"banned": True, "ban_reason": reason, "ban_expires": expires}
    return await change_user(connection, actor, user_id, changes, action="user.ban")


async def unban(connection: AsyncConnection, actor: Actor, user_id: str) -> User:
    """Lift a ban, if there is one. Raises `UserNotFoundError`."""
    changes = {"banned": False, "ban_reason": None, "ban_expires": None}
    return await change_user(connection, actor, user_id, changes, action="user.unban")


async def change_user(
    connection: AsyncConnection, actor: Actor, user_id: str, changes: Mapping[str, Any], *, action: str = "user.update"
) -> User:
    """Set the columns *changes* of a user and return the user; a ban deletes the user's sessions.

    Raises `UserNotFoundError`, `UserExistsError` and `LastAdminError`.
    """
    await lock_admins(connection)
    before = await find_user(connection, user_id)
    await check_admin_remains(connection, before, replace(before, **changes))
    after = await _update(connection, before, changes)
    if changes.get("banned"):
        await delete_sessions(connection, user_id)
    await record(connection, actor, action, user_id, _details(before, after, changes))
    return after


async def remove_user(connection: AsyncConnection, actor: Actor, user_id: str, *, action: str = "user.remove") -> User:
    """Delete a user with everything that belongs to the user, and return it.

    Raises `UserNotFoundError` and `LastAdminError`.
    """
    await lock_admins(connection)
    user = await find_user(connection, user_id)
    await check_admin_remains(connection, user, None)
    await reset_tokens.revoke(connection, user_id)
    await record(connection, actor, action, user_id)  # while the user has a name
    await connection.execute(REMOVE, (user_id,))
    return user


async def set_password(
    connection: AsyncConnection,
    actor: Actor,
    user_id: str,
    password_hash: str,
    *,
    keep_session: str | None = None,
    action: str = "user.set-password",
) -> User:
    """Set the password hash and delete the user's sessions, except the one with the token *keep_session*.

    Raises `UserNotFoundError`.
    """
    user = await find_user(connection, user_id)
    await store_password_hash(connection, user_id, password_hash)
    await reset_tokens.revoke(connection, user_id)
    await delete_sessions(connection, user_id, keep=keep_session)
    await record(connection, actor, action, user_id)
    return user


async def issue_reset_link(connection: AsyncConnection, actor: Actor, user_id: str) -> ResetToken:
    """Issue a token with which the user sets a new password. Raises `UserNotFoundError`."""
    user = await find_user(connection, user_id)
    token = await reset_tokens.issue(connection, user.id)
    await record(connection, actor, "user.reset-link", user_id)
    return token


async def reset_password(
    connection: AsyncConnection, token: str, password_hash: str, *, ip_address: str | None
) -> str | None:
    """Set the password of the user whose *token* it is, delete the user's sessions, and return the user id.

    None if *token* is not valid. Raises `UserNotFoundError` if the user has been removed meanwhile.
    """
    user_id = await reset_tokens.consume(connection, token)
    if user_id is None:
        return None
    await set_password(
        connection, Actor(user_id=user_id, ip_address=ip_address), user_id, password_hash, action="user.reset-password"
    )
    return user_id


async def _find(connection: AsyncConnection, statement: LiteralString, value: str) -> User | None:
    if "\x00" in value or not value.isprintable():
        return None  # PostgreSQL and UTF-8 refuse some of these; none is stored
    async with connection.cursor(row_factory=class_row(User)) as cursor:
        return await (await cursor.execute(statement, (value,))).fetchone()


def _found(user: User | None, message: str) -> User:
    if user is None:
        raise UserNotFoundError(message, hint="Run: " + command("auth users list"))
    return user


async def _update(connection: AsyncConnection, user: User, changes: Mapping[str, Any]) -> User:
    values = {**changes, "updated_at": utc_now()}
    assignments = sql.SQL(", ").join(sql.SQL("{} = %s").format(sql.Identifier(column)) for column in values)
    statement = sql.SQL("UPDATE users u SET {} WHERE u.id = %s").format(assignments)
    try:
        await connection.execute(statement, (*values.values(), user.id))
    except psycopg.errors.UniqueViolation as error:
        raise UserExistsError(f"A user with the e-mail address {changes['email']} already exists") from error
    return replace(user, **values)


def _details(before: User, after: User, changes: Mapping[str, Any]) -> dict[str, object]:
    """Return what the audit log says of *changes*: columns, the role and address before, a ban's reason and end."""
    details: dict[str, object] = {"changed": sorted(changes)}
    if before.role != after.role:
        details |= {"role": after.role, "formerRole": before.role}
    if before.email != after.email:
        details |= {"email": after.email, "formerEmail": before.email}
    if changes.get("banned"):
        details |= {"reason": after.ban_reason, "until": iso(after.ban_expires) if after.ban_expires else None}
    return details
