"""Users and their passwords: better-auth's tables ``users`` and ``accounts``, and the audit log of their changes."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, LiteralString

import psycopg
from psycopg import AsyncConnection
from psycopg.types.json import Jsonb

from mosaic_gateway.auth.better_auth_format import iso, new_id, utc_now
from mosaic_gateway.auth.errors import (
    InvalidEmailError,
    InvalidNameError,
    InvalidRoleError,
    UserExistsError,
)
from mosaic_gateway.auth.passwords import check_length, hash_password
from mosaic_gateway.hint import command

__all__ = [
    "COLUMNS",
    "NewUser",
    "User",
    "check_email",
    "check_name",
    "check_new_email",
    "insert_user",
    "list_users",
    "prepare_user",
    "record_action",
    "store_password_hash",
]

#: zod 4's e-mail pattern, used by better-auth.
EMAIL = re.compile(r"(?!\.)(?!.*\.\.)[A-Za-z0-9_'+\-.]*[A-Za-z0-9_+-]@(?:[A-Za-z0-9][A-Za-z0-9\-]*\.)+[A-Za-z]{2,}")
EMAIL_MAX = 254  # RFC 5321; much longer addresses exceed the size limit of the unique index
NAME_MAX = 200
#: C0 and C1 control characters (PostgreSQL refuses NUL), and lone surrogates, which UTF-8 cannot encode.
UNPRINTABLE = re.compile("[\x00-\x1f\x7f-\x9f\ud800-\udfff]")
ROLES = ("admin", "user")

#: In the order of the keys in better-auth's JSON.
COLUMNS: LiteralString = (
    "u.name, u.email, u.email_verified, u.image, u.created_at, u.updated_at,"
    " u.role, u.banned, u.ban_reason, u.ban_expires, u.id"
)
LIST: LiteralString = f"SELECT {COLUMNS} FROM users u ORDER BY u.created_at, u.id"  # noqa: S608 - constants only
INSERT = (
    "INSERT INTO users (id, name, email, email_verified, created_at, updated_at, role, banned)"
    " VALUES (%s, %s, %s, false, %s, %s, %s, false)"
)
INSERT_ACCOUNT = (
    "INSERT INTO accounts (id, account_id, provider_id, user_id, password, created_at, updated_at)"
    " VALUES (%s, %s, 'credential', %s, %s, %s, %s)"
)
CHANGE_ACCOUNT = (
    "UPDATE accounts SET password = %s, updated_at = %s"
    " WHERE user_id = %s AND provider_id = 'credential' AND account_id = user_id"
)
#: The people are named in the details, since the entry outlives their rows.
INSERT_ACTION = """
INSERT INTO audit_log (actor_id, action, target, ip_address, details, created_at)
SELECT %(actor)s, %(action)s, %(target)s, %(address)s, %(details)s || jsonb_strip_nulls(jsonb_build_object(
    'actor', (SELECT jsonb_build_object('id', id, 'name', name, 'email', email) FROM users WHERE id = %(actor)s),
    'target', (SELECT jsonb_build_object('id', id, 'name', name, 'email', email) FROM users WHERE id = %(person)s)
)), now()
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class User:
    """A row of ``users``. Times are UTC without zone."""

    id: str
    name: str
    email: str
    email_verified: bool
    image: str | None
    created_at: datetime
    updated_at: datetime
    role: str | None
    banned: bool | None
    ban_reason: str | None
    ban_expires: datetime | None

    @property
    def roles(self) -> tuple[str, ...]:
        """The names of the user's roles, which better-auth joins with commas; ``user`` if there is none."""
        return tuple(role.strip() for role in (self.role or "user").split(","))

    @property
    def is_admin(self) -> bool:
        """Whether ``admin`` is among the roles."""
        return "admin" in self.roles

    def is_banned(self, now: datetime) -> bool:
        """Return whether a ban is in force at *now*."""
        return bool(self.banned) and (self.ban_expires is None or self.ban_expires >= now)

    @classmethod
    def from_row(cls, row: Sequence[Any]) -> User:
        """Return the user from a row of `COLUMNS`."""
        name, email, verified, image, created_at, updated_at, role, banned, ban_reason, ban_expires, user_id = row
        return cls(
            id=user_id,
            name=name,
            email=email,
            email_verified=verified,
            image=image,
            created_at=created_at,
            updated_at=updated_at,
            role=role,
            banned=banned,
            ban_reason=ban_reason,
            ban_expires=ban_expires,
        )

    def to_json(self) -> dict[str, object]:
        """Return better-auth's JSON object, with its names in its order."""
        return {
            "name": self.name,
            "email": self.email,
            "emailVerified": self.email_verified,
            "image": self.image,
            "createdAt": iso(self.created_at),
            "updatedAt": iso(self.updated_at),
            "role": self.role,
            "banned": self.banned,
            "banReason": self.ban_reason,
            "banExpires": iso(self.ban_expires) if self.ban_expires else None,
            "id": self.id,
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class NewUser:
    """A user to be inserted: values checked, e-mail in lower case, password hashed (None: no password account)."""

    name: str
    email: str
    password_hash: str | None
    role: str


def check_email(email: str) -> str:
    """Return *email* in lower case. Raises `InvalidEmailError` if better-auth would refuse it."""
    if not EMAIL.fullmatch(email):
        raise InvalidEmailError("Invalid email", hint="Use an address like name@example.com.")
    return email.lower()


def check_new_email(email: str) -> str:
    """Return *email* in lower case, checked for its length too. Raises `InvalidEmailError`."""
    if len(email) > EMAIL_MAX:
        raise InvalidEmailError("Invalid email", hint=f"An address has at most {EMAIL_MAX} characters.")
    return check_email(email)


def check_name(name: str) -> str:
    """Return *name* stripped. Raises `InvalidNameError` if empty, too long or unprintable."""
    name = name.strip()
    if not name or len(name) > NAME_MAX or UNPRINTABLE.search(name):
        raise InvalidNameError(
            "Invalid name", hint=f"Give a name of 1 to {NAME_MAX} characters without control characters."
        )
    return name


def prepare_user(name: str, email: str, password: str, role: str = "user") -> NewUser:
    """Check all values and hash *password*, which takes about 120 ms.

    Raises `InvalidNameError`, `InvalidEmailError`, `InvalidRoleError`, `PasswordTooShortError` and
    `PasswordTooLongError`.
    """
    name, email = check_name(name), check_new_email(email)
    if role not in ROLES:
        raise InvalidRoleError(f"Unknown role {role!r}", hint=f"Roles: {', '.join(ROLES)}.")
    check_length(password)
    return NewUser(name=name, email=email, password_hash=hash_password(password), role=role)


async def insert_user(connection: AsyncConnection, new: NewUser) -> User:
    """Insert *new* and, if it has a password, the account row. Raises `UserExistsError`."""
    now, user_id = utc_now(), new_id()
    try:
        await connection.execute(INSERT, (user_id, new.name, new.email, now, now, new.role))
    except psycopg.errors.UniqueViolation as error:
        raise UserExistsError(
            f"A user with the e-mail address {new.email} already exists",
            hint="To change the password: " + command("auth users set-password"),
        ) from error
    if new.password_hash is not None:
        await connection.execute(INSERT_ACCOUNT, (new_id(), user_id, user_id, new.password_hash, now, now))
    return User.from_row((new.name, new.email, False, None, now, now, new.role, False, None, None, user_id))


async def list_users(connection: AsyncConnection) -> tuple[User, ...]:
    """Return every user, oldest first."""
    cursor = await connection.execute(LIST)
    return tuple(User.from_row(row) for row in await cursor.fetchall())


async def store_password_hash(connection: AsyncConnection, user_id: str, password_hash: str) -> None:
    """Set the password hash of the user *user_id*, who exists; create the account row if there is none."""
    now = utc_now()
    cursor = await connection.execute(CHANGE_ACCOUNT, (password_hash, now, user_id))
    if cursor.rowcount == 0:
        await connection.execute(INSERT_ACCOUNT, (new_id(), user_id, user_id, password_hash, now, now))


async def record_action(
    connection: AsyncConnection,
    action: str,
    *,
    target: str | None,
    actor_id: str | None = None,
    ip_address: str | None = None,
    details: Mapping[str, object] | None = None,
    owner_id: str | None = None,
) -> None:
    """Record *action* on the user id *target*; *actor_id* None means the command line, or a person not signed in.

    *details* are values that JSON can hold, never a secret or what a client sent. Id, name and address of the actor and
    of the target are added to them as ``actor`` and ``target``. *owner_id* is the user to whom a target of another kind
    belongs.
    """
    values = {
        "actor": actor_id, "action": action, "target": target, "address": ip_address,
        "details": Jsonb(dict(details or {})), "person": owner_id or target,
    }  # fmt: skip
    await connection.execute(INSERT_ACTION, values)
