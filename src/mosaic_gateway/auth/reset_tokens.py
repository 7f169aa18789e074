"""Tokens of links with which a user sets a new password; an admin issues them, because there is no mail server.

A token is valid for 24 hours and once; a new one replaces the user's earlier ones. It is stored as better-auth stores
it with ``verification.storeIdentifier: "hashed"``: ``identifier`` is the base64url SHA-256 of
``reset-password:<token>``, ``value`` the user id. So a copy of the database does not reveal it, and either program
accepts the other's tokens.
"""

from __future__ import annotations

import hashlib
from base64 import urlsafe_b64encode
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

from mosaic_gateway.auth.better_auth_format import new_id, utc_now
from mosaic_gateway.config import Secret

if TYPE_CHECKING:
    from psycopg import AsyncConnection

__all__ = ["LIFETIME", "ResetToken", "consume", "find_user_id", "issue", "reset_url", "revoke"]

LIFETIME = timedelta(hours=24)
INSERT = (
    "INSERT INTO verifications (id, identifier, value, expires_at, created_at, updated_at)"
    " VALUES (%s, %s, %s, %s, %s, %s)"
)
FIND = "SELECT value FROM verifications WHERE identifier = %s AND expires_at > %s"
CONSUME = "DELETE FROM verifications WHERE identifier = %s AND expires_at > %s RETURNING value"
#: Only hashed identifiers, which are 43 characters long and contain no colon.
REVOKE = "DELETE FROM verifications WHERE value = %s AND identifier ~ '^[A-Za-z0-9_-]{43}$'"


@dataclass(frozen=True, slots=True)
class ResetToken:
    """A token returned by `issue`; its clear text is stored nowhere. *expires_at* is UTC without zone."""

    token: Secret
    expires_at: datetime


async def issue(connection: AsyncConnection, user_id: str) -> ResetToken:
    """Store a new token for the user *user_id* and invalidate the earlier ones."""
    token, now = new_id(), utc_now()
    await revoke(connection, user_id)
    await connection.execute(INSERT, (new_id(), _identifier(token), user_id, now + LIFETIME, now, now))
    return ResetToken(Secret(token), now + LIFETIME)


async def find_user_id(connection: AsyncConnection, token: str) -> str | None:
    """Return whose *token* is, None if it is not valid."""
    row = await (await connection.execute(FIND, (_identifier(token), utc_now()))).fetchone()
    return str(row[0]) if row else None


async def consume(connection: AsyncConnection, token: str) -> str | None:
    """Delete *token* and return whose it was; None if it is not valid. Of concurrent calls one gets the user."""
    row = await (await connection.execute(CONSUME, (_identifier(token), utc_now()))).fetchone()
    return str(row[0]) if row else None


async def revoke(connection: AsyncConnection, user_id: str) -> None:
    """Invalidate the tokens of a user."""
    await connection.execute(REVOKE, (user_id,))


def reset_url(base_url: str, token: ResetToken) -> str:
    """Return the URL of the reset page with *token* in the fragment, which browsers do not send to the server."""
    return f"{base_url}/reset-password#token={token.token.reveal()}"


def _identifier(token: str) -> str:
    digest = hashlib.sha256(f"reset-password:{token}".encode("utf-8", "replace")).digest()
    return urlsafe_b64encode(digest).decode("ascii").rstrip("=")
