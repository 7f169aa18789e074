"""The set-up token: 256 random bits that authorize the creation of the first admin within 24 hours.

Only its SHA-256 hash is stored, in ``verifications`` under a fixed identifier, so a copy of the database does
not reveal it. There is at most one token; `setup` issues and consumes it under an advisory lock. The user gets it as
a link (`setup_url`).
"""

from __future__ import annotations

import hashlib
import hmac
import secrets
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

from mosaic_gateway.auth.better_auth_format import new_id, utc_now
from mosaic_gateway.config import Secret

if TYPE_CHECKING:
    from psycopg import AsyncConnection

__all__ = [
    "IDENTIFIER",
    "LIFETIME",
    "SetupToken",
    "check",
    "consume",
    "exists",
    "expires_at",
    "issue",
    "revoke",
    "setup_url",
]

IDENTIFIER = "bootstrap-setup"
LIFETIME = timedelta(hours=24)
TOKEN_BYTES = 32
FIND = "SELECT value FROM verifications WHERE identifier = %s AND expires_at > %s"
FIND_EXPIRY = "SELECT value, expires_at FROM verifications WHERE identifier = %s"
INSERT = (
    "INSERT INTO verifications (id, identifier, value, expires_at, created_at, updated_at)"
    " VALUES (%s, %s, %s, %s, %s, %s)"
)
DELETE = "DELETE FROM verifications WHERE identifier = %s"


@dataclass(frozen=True, slots=True)
class SetupToken:
    """A token returned by `issue`; its clear text is stored nowhere. *expires_at* is UTC without zone."""

    token: Secret
    expires_at: datetime


async def issue(connection: AsyncConnection) -> SetupToken:
    """Store a new token and invalidate the previous one."""
    token, now = secrets.token_urlsafe(TOKEN_BYTES), utc_now()
    await revoke(connection)
    await connection.execute(INSERT, (new_id(), IDENTIFIER, _hash(token), now + LIFETIME, now, now))
    return SetupToken(Secret(token), now + LIFETIME)


async def exists(connection: AsyncConnection) -> bool:
    """Return whether there is a token that has not expired."""
    return await (await connection.execute(FIND, (IDENTIFIER, utc_now()))).fetchone() is not None


async def check(connection: AsyncConnection, token: str) -> bool:
    """Return whether *token* is valid; hashes are compared in constant time."""
    cursor = await connection.execute(FIND, (IDENTIFIER, utc_now()))
    expected = _hash(token)
    return any(hmac.compare_digest(row[0].encode(), expected.encode()) for row in await cursor.fetchall())


async def expires_at(connection: AsyncConnection, token: str) -> datetime | None:
    """Return when *token*, which is the last one that was issued, expires or expired; None for any other token."""
    expected = _hash(token)
    rows = await (await connection.execute(FIND_EXPIRY, (IDENTIFIER,))).fetchall()
    return next((row[1] for row in rows if hmac.compare_digest(row[0].encode(), expected.encode())), None)


async def consume(connection: AsyncConnection, token: str) -> bool:
    """Delete *token* if it is valid, and return whether it was."""
    if not await check(connection, token):
        return False
    await revoke(connection)
    return True


async def revoke(connection: AsyncConnection) -> None:
    """Invalidate the current token, if any."""
    await connection.execute(DELETE, (IDENTIFIER,))


def _hash(token: str) -> str:
    return hashlib.sha256(token.encode("utf-8", "replace")).hexdigest()


def setup_url(base_url: str, token: SetupToken) -> str:
    """Return the URL of the set-up page with *token* in the fragment, which browsers do not send to the server."""
    return f"{base_url}/setup#token={token.token.reveal()}"
