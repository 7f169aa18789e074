"""Sessions: better-auth's table ``sessions``; the session token authenticates a request.

A session lasts seven days. With ``rememberMe: false`` it lasts one day, and its cookies end with the
browser. Operations take an open async connection set up with `connection.SETTINGS`.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import LiteralString

import psycopg
from psycopg import AsyncConnection

from mosaic_gateway.auth.errors import InvalidCredentialsError
from mosaic_gateway.auth.ids import new_id
from mosaic_gateway.auth.times import iso, utc_now
from mosaic_gateway.auth.users import COLUMNS as USER_COLUMNS
from mosaic_gateway.auth.users import User

__all__ = ["Session", "delete_session", "find_session", "insert_session", "new_session"]

LIFETIME = timedelta(days=7)
SHORT_LIFETIME = timedelta(days=1)
COLUMNS: LiteralString = (
    "s.expires_at, s.token, s.created_at, s.updated_at, s.ip_address, s.user_agent, s.user_id, s.impersonated_by, s.id"
)
FIND: LiteralString = (
    f"SELECT {COLUMNS}, {USER_COLUMNS} FROM sessions s JOIN users u ON u.id = s.user_id WHERE s.token = %s"  # noqa: S608 - constants only
)
INSERT = (
    "INSERT INTO sessions (id, token, user_id, expires_at, created_at, updated_at, ip_address, user_agent)"
    " VALUES (%s, %s, %s, %s, %s, %s, %s, %s)"
)
DELETE = "DELETE FROM sessions WHERE token = %s"
SESSION_WIDTH = 9  # columns


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


async def delete_session(connection: AsyncConnection, token: str) -> None:
    """Delete the session with *token*, if there is one."""
    await connection.execute(DELETE, (token,))
