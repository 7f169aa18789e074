"""API tokens: bearer tokens for programs, limited to scopes, in the table ``api_tokens``.

A token acts for the user who owns it and has no more rights than the user. It is ``mgw_`` and 43 letters and digits,
256 random bits; only its SHA-256 hash is stored, so it is shown once. Scopes:

- ``read``: read what the user may read, of an admin the users too.
- ``admin``: everything that an admin may do with users; only for users who are admins.
- ``forward``: sign in to services behind forward authentication.

Writes that a request causes are bounded: the last use is stored at most once a minute, the audit log gets a row when a
token is used for the first time in an hour, and for a refused one at most every ten minutes.
"""

from __future__ import annotations

import hashlib
import secrets
import string
from collections.abc import Collection
from dataclasses import dataclass, fields
from datetime import datetime, timedelta
from typing import LiteralString

from psycopg import AsyncConnection
from psycopg.rows import class_row, dict_row, tuple_row

from mosaic_gateway.auth.audit import Actor, record
from mosaic_gateway.auth.better_auth_format import iso, new_id, utc_now
from mosaic_gateway.auth.errors import ApiTokenNotFoundError, InvalidScopeError
from mosaic_gateway.auth.users import COLUMNS as USER_COLUMNS
from mosaic_gateway.auth.users import User
from mosaic_gateway.config import Secret
from mosaic_gateway.hint import command

__all__ = [
    "PREFIX",
    "SCOPES",
    "ApiToken",
    "IssuedToken",
    "OwnedToken",
    "create_token",
    "find_token",
    "list_owned",
    "list_tokens",
    "record_refusal",
    "record_use",
    "revoke_token",
]

PREFIX = "mgw_"
SCOPES = ("read", "admin", "forward")
LENGTH = 43
ALPHABET = string.ascii_letters + string.digits
USE_INTERVAL = timedelta(minutes=1)
AUDIT_INTERVAL = timedelta(hours=1)

COLUMNS: LiteralString = "t.id, t.user_id, t.name, t.scopes, t.last_used_at, t.expires_at, t.revoked_at, t.created_at"
INSERT = (
    "INSERT INTO api_tokens (id, user_id, name, token_hash, scopes, expires_at, created_at)"
    " VALUES (%s, %s, %s, %s, %s, %s, %s)"
)
FIND: LiteralString = (
    f"SELECT {COLUMNS}, {USER_COLUMNS} FROM api_tokens t JOIN users u ON u.id = t.user_id"  # noqa: S608 - constants only
    " WHERE t.token_hash = %s"
)
LIST: LiteralString = (
    f"SELECT {COLUMNS} FROM api_tokens t WHERE t.user_id = %s"  # noqa: S608 - constants only
    " ORDER BY t.created_at, t.id"
)
LIST_OWNED: LiteralString = (
    f"SELECT {COLUMNS}, u.email FROM api_tokens t JOIN users u ON u.id = t.user_id"  # noqa: S608 - constants only
    " WHERE t.user_id = coalesce(%s, t.user_id) ORDER BY u.email, t.created_at, t.id"
)
REVOKE: LiteralString = (
    "UPDATE api_tokens t SET revoked_at = coalesce(t.revoked_at, %s)"  # noqa: S608 - constants only
    f" WHERE t.id = %s AND t.user_id = coalesce(%s, t.user_id) RETURNING {COLUMNS}"
)
USE = "UPDATE api_tokens SET last_used_at = %s WHERE id = %s AND (last_used_at IS NULL OR last_used_at <= %s)"
REFUSED = (
    "SELECT EXISTS (SELECT 1 FROM audit_log WHERE created_at > now() - interval '10 minutes'"
    " AND action = 'token.refused' AND target = %s)"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class ApiToken:
    """A row of ``api_tokens`` without the hash. Times are UTC without zone."""

    id: str
    user_id: str
    name: str
    scopes: list[str]
    last_used_at: datetime | None
    expires_at: datetime | None
    revoked_at: datetime | None
    created_at: datetime

    def refusal(self, user: User, now: datetime) -> str | None:
        """Return why the token is not valid at *now*, ``revoked``, ``expired`` or ``banned``; None if it is valid."""
        if self.revoked_at is not None:
            return "revoked"
        if self.expires_at is not None and self.expires_at <= now:
            return "expired"
        return "banned" if user.is_banned(now) else None

    def allows(self, scope: str) -> bool:
        """Return whether the token has *scope*; ``admin`` includes ``read``."""
        return scope in self.scopes or (scope == "read" and "admin" in self.scopes)

    def needs_use(self, now: datetime) -> bool:
        """Return whether a use at *now* is to be stored: the last one was a minute ago or earlier."""
        return self.last_used_at is None or self.last_used_at <= now - USE_INTERVAL

    def to_json(self) -> dict[str, object]:
        """Return the JSON object of the HTTP API and of the command line."""
        return {
            "id": self.id,
            "userId": self.user_id,
            "name": self.name,
            "scopes": self.scopes,
            "createdAt": iso(self.created_at),
            "expiresAt": iso(self.expires_at) if self.expires_at else None,
            "lastUsedAt": iso(self.last_used_at) if self.last_used_at else None,
            "revokedAt": iso(self.revoked_at) if self.revoked_at else None,
        }


@dataclass(frozen=True, slots=True)
class IssuedToken:
    """A new token and whose it is; its clear text is stored nowhere."""

    token: Secret
    record: ApiToken
    user: User


@dataclass(frozen=True, slots=True)
class OwnedToken:
    """A token and the address of its user, for the command line."""

    record: ApiToken
    email: str

    def to_json(self) -> dict[str, object]:
        """Return the JSON object."""
        return {**self.record.to_json(), "email": self.email}


async def create_token(
    connection: AsyncConnection,
    actor: Actor,
    user: User,
    *,
    name: str,
    scopes: Collection[str],
    expires_at: datetime | None,
) -> IssuedToken:
    """Store a new token of *user*, who exists. Raises `InvalidScopeError`."""
    unknown = sorted(set(scopes) - set(SCOPES))
    if unknown or not scopes:
        raise InvalidScopeError(
            f"Unknown scope {unknown[0]!r}" if unknown else "A token needs a scope",
            hint=f"Scopes: {', '.join(SCOPES)}.",
        )
    token = PREFIX + "".join(secrets.choice(ALPHABET) for _ in range(LENGTH))
    record = ApiToken(
        id=new_id(),
        user_id=user.id,
        name=name,
        scopes=[scope for scope in SCOPES if scope in scopes],
        last_used_at=None,
        expires_at=expires_at,
        revoked_at=None,
        created_at=utc_now(),
    )
    row = (record.id, user.id, name, _hash(token), record.scopes, expires_at, record.created_at)
    await connection.execute(INSERT, row)
    await _record(connection, actor, "token.create", record, {"scopes": record.scopes})
    return IssuedToken(Secret(token), record, user)


async def list_tokens(connection: AsyncConnection, user_id: str) -> list[ApiToken]:
    """Return the tokens of a user, oldest first, revoked and expired ones too."""
    async with connection.cursor(row_factory=class_row(ApiToken)) as cursor:
        return await (await cursor.execute(LIST, (user_id,))).fetchall()


async def list_owned(connection: AsyncConnection, user_id: str | None) -> list[OwnedToken]:
    """Return the tokens of a user, or of all by the users' addresses, revoked and expired ones too."""
    async with connection.cursor(row_factory=dict_row) as cursor:
        rows = await (await cursor.execute(LIST_OWNED, (user_id,))).fetchall()
    return [OwnedToken(ApiToken(**{k: row[k] for k in row if k != "email"}), row["email"]) for row in rows]


async def revoke_token(
    connection: AsyncConnection, actor: Actor, token_id: str, *, user_id: str | None = None
) -> ApiToken:
    """Revoke the token *token_id*, if it belongs to *user_id* or that is None; a revoked one stays as it is.

    Raises `ApiTokenNotFoundError`.
    """
    record = None
    if token_id.isprintable():
        async with connection.cursor(row_factory=class_row(ApiToken)) as cursor:
            record = await (await cursor.execute(REVOKE, (utc_now(), token_id, user_id))).fetchone()
    if record is None:
        raise ApiTokenNotFoundError("No such API token", hint="Run: " + command("auth tokens list"))
    await _record(connection, actor, "token.revoke", record, {})
    return record


async def find_token(connection: AsyncConnection, token: str) -> tuple[ApiToken, User] | None:
    """Return the row of *token* and its user, even if it is not valid; None if there is none."""
    async with connection.cursor(row_factory=tuple_row) as cursor:
        row = await (await cursor.execute(FIND, (_hash(token),))).fetchone()
    if row is None:
        return None
    names = [field.name for field in fields(ApiToken)]  # in the order of COLUMNS
    return ApiToken(**dict(zip(names, row, strict=False))), User.from_row(row[len(names) :])


async def record_use(connection: AsyncConnection, record: ApiToken, ip_address: str | None) -> None:
    """Store that the token is used now, unless another request has done so within the minute."""
    now = utc_now()
    cursor = await connection.execute(USE, (now, record.id, now - USE_INTERVAL))
    earlier = record.last_used_at
    first_in_a_while = earlier is None or earlier <= now - AUDIT_INTERVAL or earlier.date() != now.date()
    if cursor.rowcount and first_in_a_while:
        await _record(connection, Actor(user_id=record.user_id, ip_address=ip_address), "token.use", record, {})


async def record_refusal(connection: AsyncConnection, record: ApiToken, reason: str, ip_address: str | None) -> None:
    """Record in the audit log that the token was refused, at most once in ten minutes."""
    row = await (await connection.execute(REFUSED, (record.id,))).fetchone()
    if row is None or not row[0]:
        actor = Actor(user_id=record.user_id, ip_address=ip_address)
        await _record(connection, actor, "token.refused", record, {"reason": reason})


async def _record(
    connection: AsyncConnection, actor: Actor, action: str, token: ApiToken, details: dict[str, object]
) -> None:
    details = {"name": token.name, "tokenId": token.id, **details}
    await record(connection, actor, action, token.id, details, owner_id=token.user_id)


def _hash(token: str) -> str:
    return hashlib.sha256(token.encode("utf-8", "replace")).hexdigest()
