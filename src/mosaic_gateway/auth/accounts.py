"""Synchronous user management for the command line; each call opens a connection of its own.

Every function takes a libpq *conninfo* and runs in one transaction; a change is recorded in the audit log. Besides
the errors it lists, each raises `DatabaseUnavailableError` or `SchemaMissingError`. Passwords are checked and hashed
before a connection is opened.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Collection
from datetime import timedelta
from typing import TypeVar

from psycopg import AsyncConnection

from mosaic_gateway.auth import administration, api_tokens, permissions, session_list, setup, setup_tokens, users
from mosaic_gateway.auth.api_tokens import ApiToken, IssuedToken, OwnedToken
from mosaic_gateway.auth.audit import COMMAND_LINE
from mosaic_gateway.auth.better_auth_format import utc_now
from mosaic_gateway.auth.connection import run_on
from mosaic_gateway.auth.errors import InvalidRoleError
from mosaic_gateway.auth.passwords import check_length, hash_password
from mosaic_gateway.auth.reset_tokens import ResetToken
from mosaic_gateway.auth.session_list import OwnedSession
from mosaic_gateway.auth.setup_tokens import SetupToken
from mosaic_gateway.auth.users import User, check_name, prepare_user

__all__ = [
    "ban_user",
    "create_token",
    "create_user",
    "has_setup_token",
    "issue_reset_link",
    "issue_setup_token",
    "list_sessions",
    "list_tokens",
    "list_users",
    "needs_setup",
    "remove_user",
    "revoke_sessions",
    "revoke_token",
    "set_password",
    "set_role",
    "setup_first_admin",
    "unban_user",
]

T = TypeVar("T")


def needs_setup(conninfo: str) -> bool:
    """Return whether the gateway has no admin yet; writes nothing."""
    return run_on(conninfo, setup.needs_setup)


def setup_first_admin(conninfo: str, *, name: str, email: str, password: str) -> User:
    """Create the first admin, without a set-up token.

    Raises `AdminExistsError`, `UserExistsError` and the errors of `prepare_user`.
    """
    new = prepare_user(name, email, password, "admin")
    return run_on(conninfo, lambda connection: setup.create_first_admin(connection, new))


def issue_setup_token(conninfo: str) -> SetupToken:
    """Issue a set-up token and invalidate earlier ones. Raises `AdminExistsError`."""
    return run_on(conninfo, setup.issue_setup_token)


def create_user(conninfo: str, *, name: str, email: str, password: str, role: str = "user") -> User:
    """Add a user; *role* is ``user`` or ``admin``. Raises `UserExistsError` and the errors of `prepare_user`."""
    new = prepare_user(name, email, password, role)
    return run_on(conninfo, lambda connection: setup.create_user(connection, new))


def list_users(conninfo: str) -> tuple[User, ...]:
    """Return every user, oldest first; writes nothing."""
    return run_on(conninfo, users.list_users)


def set_password(conninfo: str, *, email: str, password: str) -> User:
    """Set the password of the user *email* and delete that user's sessions.

    Raises `UserNotFoundError`, `PasswordTooShortError`, `PasswordTooLongError`.
    """
    check_length(password)
    password_hash = hash_password(password)

    return _with_user(
        conninfo,
        email,
        lambda connection, user: administration.set_password(connection, COMMAND_LINE, user.id, password_hash),
    )


def has_setup_token(conninfo: str) -> bool:
    """Return whether there is a valid set-up token; writes nothing."""
    return run_on(conninfo, setup_tokens.exists)


def set_role(conninfo: str, *, email: str, role: str) -> User:
    """Set the role of the user *email*. Raises `UserNotFoundError`, `InvalidRoleError` and `LastAdminError`."""
    if not role or not permissions.is_role(role):
        raise InvalidRoleError(
            f"Invalid role {role!r}", hint="A role has letters, digits and _.:- and at most 64 characters."
        )
    return _with_user(
        conninfo, email, lambda connection, user: administration.set_role(connection, COMMAND_LINE, user.id, role)
    )


def ban_user(conninfo: str, *, email: str, reason: str | None = None, days: float | None = None) -> User:
    """Ban the user *email* for *days*, None for good. Raises `UserNotFoundError` and `LastAdminError`."""
    expires = utc_now() + timedelta(days=days) if days is not None else None
    why = reason or administration.NO_REASON
    return _with_user(
        conninfo,
        email,
        lambda connection, user: administration.ban(connection, COMMAND_LINE, user.id, reason=why, expires=expires),
    )


def unban_user(conninfo: str, *, email: str) -> tuple[User, bool]:
    """Lift the ban of the user *email*; return the user, and whether there was one. Raises `UserNotFoundError`."""

    async def unban(connection: AsyncConnection, user: User) -> tuple[User, bool]:
        if not user.banned:
            return user, False
        return await administration.unban(connection, COMMAND_LINE, user.id), True

    return _with_user(conninfo, email, unban)


def remove_user(conninfo: str, *, email: str) -> User:
    """Delete the user *email*. Raises `UserNotFoundError` and `LastAdminError`."""
    return _with_user(
        conninfo, email, lambda connection, user: administration.remove_user(connection, COMMAND_LINE, user.id)
    )


def issue_reset_link(conninfo: str, *, email: str) -> ResetToken:
    """Issue a token with which the user *email* sets a new password. Raises `UserNotFoundError`."""
    return _with_user(
        conninfo, email, lambda connection, user: administration.issue_reset_link(connection, COMMAND_LINE, user.id)
    )


def list_sessions(conninfo: str, *, email: str | None) -> list[OwnedSession]:
    """Return the sessions that have not expired, of the user *email* or of all; writes nothing.

    Raises `UserNotFoundError`.
    """

    async def read(connection: AsyncConnection) -> list[OwnedSession]:
        user = await administration.find_user_by_email(connection, email) if email is not None else None
        return await session_list.list_owned(connection, user.id if user else None)

    return run_on(conninfo, read)


def revoke_sessions(conninfo: str, *, email: str | None, session_id: str | None) -> int:
    """Delete the sessions of the user *email*, or the one with *session_id*, and return how many there were.

    Raises `UserNotFoundError` and `SessionNotFoundError`.
    """

    async def revoke(connection: AsyncConnection) -> int:
        if email is None:
            return await session_list.revoke_session_id(connection, COMMAND_LINE, session_id or "")
        user = await administration.find_user_by_email(connection, email)
        return await session_list.revoke_sessions(connection, COMMAND_LINE, user.id)

    return run_on(conninfo, revoke)


def create_token(conninfo: str, *, email: str, name: str, scopes: Collection[str], days: float | None) -> IssuedToken:
    """Create an API token of the user *email* that expires after *days*, None: never.

    Raises `UserNotFoundError`, `InvalidNameError` and `InvalidScopeError`.
    """
    name, expires_at = check_name(name), utc_now() + timedelta(days=days) if days is not None else None
    return _with_user(
        conninfo,
        email,
        lambda connection, user: api_tokens.create_token(
            connection, COMMAND_LINE, user, name=name, scopes=scopes, expires_at=expires_at
        ),
    )


def list_tokens(conninfo: str, *, email: str | None) -> list[OwnedToken]:
    """Return the API tokens of the user *email*, or of all users; writes nothing. Raises `UserNotFoundError`."""

    async def read(connection: AsyncConnection) -> list[OwnedToken]:
        user = await administration.find_user_by_email(connection, email) if email is not None else None
        return await api_tokens.list_owned(connection, user.id if user else None)

    return run_on(conninfo, read)


def revoke_token(conninfo: str, *, token_id: str) -> ApiToken:
    """Revoke the API token *token_id*. Raises `ApiTokenNotFoundError`."""
    return run_on(conninfo, lambda connection: api_tokens.revoke_token(connection, COMMAND_LINE, token_id))


def _with_user(conninfo: str, email: str, operation: Callable[[AsyncConnection, User], Awaitable[T]]) -> T:
    async def run(connection: AsyncConnection) -> T:
        return await operation(connection, await administration.find_user_by_email(connection, email))

    return run_on(conninfo, run)
