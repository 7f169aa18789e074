"""Sign-in with e-mail and password, and sessions (better-auth's table ``sessions``).

The session token authenticates a request.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import LiteralString

import psycopg
from psycopg import AsyncConnection

from mosaic_gateway.auth.better_auth_format import iso, new_id, utc_now
from mosaic_gateway.auth.errors import BannedUserError, InvalidCredentialsError
from mosaic_gateway.auth.users import COLUMNS, User
from mosaic_gateway.auth.users import COLUMNS as USER_COLUMNS

__all__ = [
    "Credentials",
    "Session",
    "admit",
    "delete_session",
    "extend_session",
    "find_credentials",
    "find_session",
    "insert_session",
    "lift_ban",
    "lock_credentials",
    "new_session",
]

FIND_CREDENTIALS: LiteralString = (
    f"SELECT {COLUMNS}, a.password FROM users u LEFT JOIN accounts a"  # noqa: S608 - constants only
    " ON a.user_id = u.id AND a.provider_id = 'credential' AND a.account_id = u.id WHERE u.email = %s LIMIT 1"
)
LOCK_CREDENTIALS: LiteralString = (
    f"SELECT {COLUMNS}, a.password FROM users u JOIN accounts a"  # noqa: S608 - constants only
    " ON a.user_id = u.id AND a.provider_id = 'credential' AND a.account_id = u.id WHERE u.id = %s"
    " FOR NO KEY UPDATE"
)
LIFT_BAN = "UPDATE users SET banned = false, ban_reason = NULL, ban_expires = NULL, updated_at = %s WHERE id = %s"
LIFETIME = timedelta(days=7)
SHORT_LIFETIME = timedelta(days=1)
UPDATE_AGE = timedelta(days=1)  # a session is extended once it is this old, or was extended this long ago
SESSION_COLUMNS: LiteralString = (
    "s.expires_at, s.token, s.created_at, s.updated_at, s.ip_address, s.user_agent, s.user_id, s.impersonated_by, s.id"
)
FIND: LiteralString = (
    f"SELECT {SESSION_COLUMNS}, {USER_COLUMNS} FROM sessions s JOIN users u ON u.id = s.user_id WHERE s.token = %s"  # noqa: S608 - constants only
)
INSERT = (
    "INSERT INTO sessions (id, token, user_id, expires_at, created_at, updated_at, ip_address, user_agent)"
    " VALUES (%s, %s, %s, %s, %s, %s, %s, %s)"
)
EXTEND = "UPDATE sessions SET expires_at = %s, updated_at = %s WHERE token = %s"
DELETE = "DELETE FROM sessions WHERE token = %s"
SESSION_WIDTH = 9  # columns


@dataclass(frozen=True, slots=True)
class Credentials:
    """A user and the stored password hash; None if the user has no password account."""

    user: User
    password_hash: str | None


async def find_credentials(connection: AsyncConnection, email: str) -> Credentials | None:
    """Return the credentials of the user with the lower-case address *email*, None if there is no such user."""
    row = await (await connection.execute(FIND_CREDENTIALS, (email,))).fetchone()
    return Credentials(User.from_row(row[:-1]), row[-1]) if row else None


async def lock_credentials(connection: AsyncConnection, verified: Credentials) -> Credentials:
    """Return the credentials as they are now, and let no one change them until the transaction ends.

    A ban or another password ends the user's sessions; so a sign-in that began before it must not create one after it.
    Raises `InvalidCredentialsError` if the password hash is not the one that was *verified*, or the user is gone.
    """
    row = await (await connection.execute(LOCK_CREDENTIALS, (verified.user.id,))).fetchone()
    if row is None or row[-1] != verified.password_hash:
        raise InvalidCredentialsError("Invalid email or password")
    return Credentials(User.from_row(row[:-1]), row[-1])


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


@dataclass(frozen=True, slots=True, kw_only=True)
class Session:
    """A row of ``sessions``. Times are UTC without zone; address and agent are ``''`` or None if unknown."""

    id: str
    token: str
    user_id: str
    expires_at: datetime
    created_at: datetime
    updated_at: datetime
    ip_address: str | None
    user_agent: str | None
    impersonated_by: str | None = None

    def is_to_be_extended(self, now: datetime) -> bool:
        """Return whether better-auth would extend the session at *now* (its ``updateAge``)."""
        return self.expires_at - LIFETIME + UPDATE_AGE <= now

    def to_json(self) -> dict[str, object]:
        """Return better-auth's JSON object, with its names in its order."""
        return {
            "expiresAt": iso(self.expires_at),
            "token": self.token,
            "createdAt": iso(self.created_at),
            "updatedAt": iso(self.updated_at),
            "ipAddress": self.ip_address,
            "userAgent": self.user_agent,
            "userId": self.user_id,
            "impersonatedBy": self.impersonated_by,
            "id": self.id,
        }


def new_session(user_id: str, *, remember: bool = True, ip_address: str = "", user_agent: str = "") -> Session:
    """Return a session with a new token for *user_id*, not yet written."""
    now = utc_now()
    return Session(
        id=new_id(),
        token=new_id(),
        user_id=user_id,
        expires_at=now + (LIFETIME if remember else SHORT_LIFETIME),
        created_at=now,
        updated_at=now,
        ip_address=ip_address,
        user_agent=user_agent,
    )


async def insert_session(connection: AsyncConnection, session: Session) -> None:
    """Write *session*. Raises `InvalidCredentialsError` if its user has been deleted."""
    row = (session.id, session.token, session.user_id, session.expires_at, session.created_at, session.updated_at)
    try:
        await connection.execute(INSERT, (*row, session.ip_address, session.user_agent))
    except psycopg.errors.ForeignKeyViolation as error:
        raise InvalidCredentialsError("Invalid email or password") from error


async def find_session(connection: AsyncConnection, token: str) -> tuple[Session, User] | None:
    """Return the session with *token*, even if expired, and its user; None if there is none."""
    row = await (await connection.execute(FIND, (token,))).fetchone()
    if row is None:
        return None
    expires_at, token, created_at, updated_at, ip_address, user_agent, user_id, impersonated_by, session_id = row[
        :SESSION_WIDTH
    ]
    session = Session(
        id=session_id,
        token=token,
        user_id=user_id,
        expires_at=expires_at,
        created_at=created_at,
        updated_at=updated_at,
        ip_address=ip_address,
        user_agent=user_agent,
        impersonated_by=impersonated_by,
    )
    return session, User.from_row(row[SESSION_WIDTH:])


async def extend_session(connection: AsyncConnection, session: Session, now: datetime) -> Session | None:
    """Let *session* end a lifetime after *now*, and return it; None if it has been deleted meanwhile."""
    extended = replace(session, expires_at=now + LIFETIME, updated_at=now)
    cursor = await connection.execute(EXTEND, (extended.expires_at, now, session.token))
    return extended if cursor.rowcount else None


async def delete_session(connection: AsyncConnection, token: str) -> None:
    """Delete the session with *token*, if there is one."""
    await connection.execute(DELETE, (token,))
