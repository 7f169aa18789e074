"""What a user does with the user's own account: password and ways to sign in; the rest is in `administration`."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from psycopg import AsyncConnection
from psycopg.rows import class_row

from mosaic_gateway.auth import reset_tokens
from mosaic_gateway.auth.audit import Actor, record
from mosaic_gateway.auth.better_auth_format import iso
from mosaic_gateway.auth.session_list import delete_sessions
from mosaic_gateway.auth.sessions import Session, insert_session
from mosaic_gateway.auth.users import store_password_hash

__all__ = ["Account", "change_password", "delete_account", "find_password_hash", "list_accounts"]

FIND = "SELECT password FROM accounts WHERE user_id = %s AND provider_id = 'credential' AND account_id = user_id"
LOCK = FIND + " FOR UPDATE"
LIST = (
    "SELECT id, account_id, provider_id, user_id, scope, created_at, updated_at FROM accounts WHERE user_id = %s"
    " ORDER BY created_at, id"
)
DELETE = "DELETE FROM accounts WHERE id = %s AND user_id = %s RETURNING provider_id"


@dataclass(frozen=True, slots=True, kw_only=True)
class Account:
    """A row of ``accounts``, a way to sign in, without its secrets. Times are UTC without zone."""

    id: str
    account_id: str
    provider_id: str
    user_id: str
    scope: str | None
    created_at: datetime
    updated_at: datetime

    def to_json(self) -> dict[str, object]:
        """Return better-auth's JSON object, with its names in its order."""
        return {
            "accountId": self.account_id,
            "providerId": self.provider_id,
            "userId": self.user_id,
            "createdAt": iso(self.created_at),
            "updatedAt": iso(self.updated_at),
            "id": self.id,
            "scopes": [name for name in map(str.strip, (self.scope or "").split(",")) if name],
        }


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


async def list_accounts(connection: AsyncConnection, user_id: str, *, lock: bool = False) -> list[Account]:
    """Return the ways in which a user may sign in, oldest first; *lock* them until the transaction ends."""
    statement = LIST + " FOR UPDATE" if lock else LIST
    async with connection.cursor(row_factory=class_row(Account)) as cursor:
        return await (await cursor.execute(statement, (user_id,))).fetchall()


async def delete_account(connection: AsyncConnection, actor: Actor, user_id: str, account_id: str) -> None:
    """Delete the account with the id *account_id* of a user."""
    row = await (await connection.execute(DELETE, (account_id, user_id))).fetchone()
    if row is not None:
        await record(connection, actor, "account.unlink", user_id, {"provider": row[0]})
