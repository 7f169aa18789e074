"""The rule that one admin remains: the last one cannot be removed, banned or demoted.

Theory of operation. An admin can administer if the role includes ``admin`` and no ban is in force. Every operation that
takes this away from a user takes the advisory lock of `setup` first, in a statement of its own, so that what it reads
next includes what the holder before it committed. Two admins who demote each other therefore do so one after the other;
who is second is no longer an admin, and the HTTP endpoints check that after the lock too.
"""

from __future__ import annotations

from datetime import datetime

from psycopg import AsyncConnection

from mosaic_gateway.auth.better_auth_format import utc_now
from mosaic_gateway.auth.errors import LastAdminError
from mosaic_gateway.auth.setup import LOCK
from mosaic_gateway.auth.users import User
from mosaic_gateway.hint import command

__all__ = ["check_admin_remains", "lock_admins"]

OTHER_ADMIN = (
    "SELECT EXISTS (SELECT 1 FROM users WHERE id <> %s AND 'admin' = ANY (string_to_array(role, ','))"
    " AND NOT (coalesce(banned, false) AND (ban_expires IS NULL OR ban_expires >= %s)))"
)


async def lock_admins(connection: AsyncConnection) -> None:
    """Wait for the lock of operations that may take away an admin, and hold it until the transaction ends."""
    await connection.execute(LOCK)


async def check_admin_remains(connection: AsyncConnection, before: User, after: User | None) -> None:
    """Raise `LastAdminError` if *before* is the last admin and *after* is not one; None: the user is removed."""
    now = utc_now()
    if not _can_administer(before, now) or (after is not None and _can_administer(after, now)):
        return
    row = await (await connection.execute(OTHER_ADMIN, (before.id, now))).fetchone()
    if not (row and row[0]):
        raise LastAdminError(
            "This is the last admin: the gateway needs one",
            hint="Make another user an admin first: " + command("auth users set-role"),
        )


def _can_administer(user: User, now: datetime) -> bool:
    return user.is_admin and not user.is_banned(now)
