"""Signing in with e-mail and password: what is looked up, and what is decided from it."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime
from typing import LiteralString

from psycopg import AsyncConnection

from mosaic_gateway.auth.errors import BannedUserError, InvalidCredentialsError
from mosaic_gateway.auth.users import COLUMNS, User

__all__ = ["Credentials", "admit", "find_credentials", "lift_ban"]

FIND: LiteralString = (
    f"SELECT {COLUMNS}, a.password FROM users u LEFT JOIN accounts a"  # noqa: S608 - constants only
    " ON a.user_id = u.id AND a.provider_id = 'credential' AND a.account_id = u.id WHERE u.email = %s LIMIT 1"
)
LIFT_BAN = "UPDATE users SET banned = false, ban_reason = NULL, ban_expires = NULL, updated_at = %s WHERE id = %s"


@dataclass(frozen=True, slots=True)
class Credentials:
    """A user and the stored password hash, None for somebody who signs in some other way."""

    user: User
    password_hash: str | None


async def find_credentials(connection: AsyncConnection, email: str) -> Credentials | None:
    """Return what the lower-case address *email* can sign in with, or None."""
    row = await (await connection.execute(FIND, (email,))).fetchone()
    return Credentials(User.from_row(row[:-1]), row[-1]) if row else None


def admit(found: Credentials | None, *, verified: bool, now: datetime) -> tuple[User, bool]:
    """Return the user who may come in, and whether a ban that has run out is to be lifted.

    *verified* is the outcome of `verify_password`, which is called for unknown users too. Raises
    `InvalidCredentialsError`, and `BannedUserError` only to somebody who knows the password.
    """
    if found is None or not verified:
        raise InvalidCredentialsError("Invalid email or password")
    user = found.user
    if not user.banned:
        return user, False
    if user.ban_expires is None or user.ban_expires >= now:
        raise BannedUserError(
            "You have been banned from this application. Please contact support if you believe this is an error."
        )
    return replace(user, banned=False, ban_reason=None, ban_expires=None, updated_at=now), True


async def lift_ban(connection: AsyncConnection, user: User) -> None:
    """Write that *user* is no longer banned."""
    await connection.execute(LIFT_BAN, (user.updated_at, user.id))
