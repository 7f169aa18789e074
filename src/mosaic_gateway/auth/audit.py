"""Who acts, and the record of it in the audit log."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from psycopg import AsyncConnection

from mosaic_gateway.auth.users import record_action

__all__ = ["COMMAND_LINE", "Actor", "record"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Actor:
    """Who acts: a user id, None for the command line; the client's address if known."""

    user_id: str | None
    ip_address: str | None = None


COMMAND_LINE = Actor(user_id=None)


async def record(
    connection: AsyncConnection,
    actor: Actor,
    action: str,
    target: str,
    details: Mapping[str, object] | None = None,
    *,
    owner_id: str | None = None,
) -> None:
    """Record that *actor* did *action* to *target*, the id of a user, or of an API token of the user *owner_id*."""
    await record_action(
        connection,
        action,
        target=target,
        actor_id=actor.user_id,
        ip_address=actor.ip_address,
        details=details,
        owner_id=owner_id,
    )
