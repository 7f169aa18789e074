"""The audit log: actor, action and target, written in the transaction of the action."""

from __future__ import annotations

from psycopg import AsyncConnection

__all__ = ["record"]

INSERT = "INSERT INTO audit_log (actor_id, action, target, ip_address, created_at) VALUES (%s, %s, %s, %s, now())"


async def record(
    connection: AsyncConnection, action: str, *, target: str, actor_id: str | None = None, ip_address: str | None = None
) -> None:
    """Record *action* on the user id *target*; *actor_id* None means the command line."""
    await connection.execute(INSERT, (actor_id, action, target, ip_address))
