"""The sessions of a user: list and revoke."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import LiteralString

from psycopg import AsyncConnection
from psycopg.rows import class_row, dict_row

from mosaic_gateway.auth.audit import Actor, record
from mosaic_gateway.auth.better_auth_format import utc_now
from mosaic_gateway.auth.errors import SessionNotFoundError
from mosaic_gateway.auth.sessions import SESSION_COLUMNS, Session
from mosaic_gateway.hint import command

__all__ = [
    "OwnedSession",
    "delete_sessions",
    "list_owned",
    "list_sessions",
    "revoke_session",
    "revoke_session_id",
    "revoke_sessions",
]

LIST: LiteralString = (
    f"SELECT {SESSION_COLUMNS} FROM sessions s WHERE s.user_id = %s"  # noqa: S608 - constants only
    " AND s.expires_at > %s ORDER BY s.created_at, s.id"
)
LIST_OWNED: LiteralString = (
    f"SELECT {SESSION_COLUMNS}, u.email FROM sessions s JOIN users u ON u.id = s.user_id"  # noqa: S608 - constants only
    " WHERE s.user_id = coalesce(%s, s.user_id) AND s.expires_at > %s ORDER BY u.email, s.created_at, s.id"
)
DELETE = "DELETE FROM sessions WHERE user_id = %s AND token IS DISTINCT FROM %s"
DELETE_ONE = "DELETE FROM sessions WHERE token = %s AND user_id = coalesce(%s, user_id) RETURNING user_id"
DELETE_ID = "DELETE FROM sessions WHERE id = %s RETURNING user_id"


@dataclass(frozen=True, slots=True)
class OwnedSession:
    """A session and the address of its user, for the command line."""

    session: Session
    email: str

    def to_json(self) -> dict[str, object]:
        """Return the JSON object, without the token, which signs in."""
        fields = {key: value for key, value in self.session.to_json().items() if key != "token"}
        return {**fields, "email": self.email}


async def list_sessions(connection: AsyncConnection, user_id: str, *, since: datetime) -> list[Session]:
    """Return the sessions of a user that expire after *since* (UTC without zone), oldest first."""
    if not user_id.isprintable():
        return []  # PostgreSQL refuses NUL
    async with connection.cursor(row_factory=class_row(Session)) as cursor:
        return await (await cursor.execute(LIST, (user_id, since))).fetchall()


async def list_owned(connection: AsyncConnection, user_id: str | None) -> list[OwnedSession]:
    """Return the sessions that have not expired, of a user or of all, by the users' addresses."""
    async with connection.cursor(row_factory=dict_row) as cursor:
        rows = await (await cursor.execute(LIST_OWNED, (user_id, utc_now()))).fetchall()
    return [OwnedSession(Session(**{k: row[k] for k in row if k != "email"}), row["email"]) for row in rows]


async def delete_sessions(connection: AsyncConnection, user_id: str, *, keep: str | None = None) -> int:
    """Delete the sessions of a user, except the one with the token *keep*, and return how many there were."""
    if not user_id.isprintable():
        return 0
    return (await connection.execute(DELETE, (user_id, keep))).rowcount


async def revoke_sessions(
    connection: AsyncConnection,
    actor: Actor,
    user_id: str,
    *,
    keep: str | None = None,
    action: str = "user.revoke-sessions",
) -> int:
    """Delete the sessions of a user, except the one with the token *keep*; record and return how many there were."""
    number = await delete_sessions(connection, user_id, keep=keep)
    if number:
        await record(connection, actor, action, user_id, {"sessions": number})
    return number


async def revoke_session(
    connection: AsyncConnection,
    actor: Actor,
    token: str,
    *,
    user_id: str | None = None,
    action: str = "user.revoke-session",
) -> bool:
    """Delete the session with *token*, if it belongs to *user_id* or that is None; return whether there was one."""
    if not token.isprintable():
        return False
    row = await (await connection.execute(DELETE_ONE, (token, user_id))).fetchone()
    if row is not None:
        await record(connection, actor, action, row[0])
    return row is not None


async def revoke_session_id(connection: AsyncConnection, actor: Actor, session_id: str) -> int:
    """Delete the session with the id *session_id* and return 1. Raises `SessionNotFoundError`."""
    row = None
    if session_id.isprintable():
        row = await (await connection.execute(DELETE_ID, (session_id,))).fetchone()
    if row is None:
        raise SessionNotFoundError("No such session", hint="Run: " + command("auth sessions list"))
    await record(connection, actor, "user.revoke-session", row[0])
    return 1
