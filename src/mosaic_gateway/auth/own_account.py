"""What a user does with the user's own account: change the password; the rest is in `administration`."""

from __future__ import annotations

from psycopg import AsyncConnection

from mosaic_gateway.auth import reset_tokens
from mosaic_gateway.auth.audit import Actor, record
from mosaic_gateway.auth.session_list import delete_sessions
from mosaic_gateway.auth.sessions import Session, insert_session
from mosaic_gateway.auth.users import store_password_hash

__all__ = ["change_password", "find_password_hash"]

FIND = "SELECT password FROM accounts WHERE user_id = %s AND provider_id = 'credential' AND account_id = user_id"
LOCK = FIND + " FOR UPDATE"


async def find_password_hash(connection: AsyncConnection, user_id: str) -> str | None:
    """Return the stored password hash, None if the user has no password."""
    row = await (await connection.execute(FIND, (user_id,))).fetchone()
    return row[0] if row else None


async def change_password(
    connection: AsyncConnection,
    actor: Actor,
    user_id: str,
    *,
    verified_hash: str,
    password_hash: str,
    replacement: Session | None,
) -> bool:
    """Set *password_hash* if the stored hash is still *verified_hash*; return whether it was.

    With *replacement*, a new session, all other sessions of the user are deleted. Reset links become invalid.
    """
    row = await (await connection.execute(LOCK, (user_id,))).fetchone()
    if row is None or row[0] != verified_hash:
        return False
    await store_password_hash(connection, user_id, password_hash)
    await reset_tokens.revoke(connection, user_id)
    if replacement is not None:
        await delete_sessions(connection, user_id)
        await insert_session(connection, replacement)
    details = {"otherSessionsRevoked": replacement is not None}
    await record(connection, actor, "account.change-password", user_id, details)
    return True
