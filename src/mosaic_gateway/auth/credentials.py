"""Sign-in with e-mail and password: look-up of the user, and the decision to admit."""

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
    """A user and the stored password hash; None if the user has no password account."""

    user: User
    password_hash: str | None


async def find_credentials(connection: AsyncConnection, email: str) -> Credentials | None:
    """Return the credentials of the user with the lower-case address *email*, None if there is no such user."""
    row = await (await connection.execute(FIND, (email,))).fetchone()
    return Credentials(User.from_row(row[:-1]), row[-1]) if row else None


def admit(credentials: Credentials | None, *, verified: bool, now: datetime) -> tuple[User, bool]:
    """Return the user to sign in, and whether an expired ban is to be lifted.

    *verified* is the result of `verify_password`, which is called for unknown users too. Raises
    `InvalidCredentialsError`, and `BannedUserError` only if the password is correct.
    """
    if credentials is None or not verified:
        raise InvalidCredentialsError("Invalid email or password")
    user = credentials.user
    if not user.banned:
        return user, False
    if user.ban_expires is None or user.ban_expires >= now:
        raise BannedUserError(
            "You have been banned from this application. Please contact support if you believe this is an error."
        )
    return replace(user, banned=False, ban_reason=None, ban_expires=None, updated_at=now), True


async def lift_ban(connection: AsyncConnection, user: User) -> None:
    """Store that *user* is no longer banned."""
    await connection.execute(LIFT_BAN, (user.updated_at, user.id))
