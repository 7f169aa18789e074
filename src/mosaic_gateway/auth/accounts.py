"""Synchronous user management for the command line; each call opens a connection of its own.

Every function takes a libpq *conninfo* and runs in one transaction; a change is recorded in the audit log. Besides
the errors it lists, each raises `DatabaseUnavailableError` or `SchemaMissingError`. Passwords are checked and hashed
before a connection is opened.
"""

from __future__ import annotations

from psycopg import AsyncConnection

from mosaic_gateway.auth import administration, setup, setup_tokens, users
from mosaic_gateway.auth.audit import COMMAND_LINE
from mosaic_gateway.auth.connection import run_on
from mosaic_gateway.auth.passwords import check_length, hash_password
from mosaic_gateway.auth.setup_tokens import SetupToken
from mosaic_gateway.auth.users import User, prepare_user

__all__ = [
    "create_user",
    "has_setup_token",
    "issue_setup_token",
    "list_users",
    "needs_setup",
    "set_password",
    "setup_first_admin",
]


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

    async def change(connection: AsyncConnection) -> User:
        user = await administration.find_user_by_email(connection, email)
        return await administration.set_password(connection, COMMAND_LINE, user.id, password_hash)

    return run_on(conninfo, change)


def has_setup_token(conninfo: str) -> bool:
    """Return whether there is a valid set-up token; writes nothing."""
    return run_on(conninfo, setup_tokens.exists)
