"""Creation of the first admin, once, with a set-up token or from the command line.

Theory of operation. Every operation that checks for an admin and then writes takes a transaction-level
advisory lock first; without it, 12 of 12 concurrent calls passed the check. The lock is acquired in a
statement of its own, and the transaction is READ COMMITTED (`connection.SETTINGS`), so that the check after
it sees what the previous holder committed. The token is deleted in the transaction that creates the admin.
"""

from __future__ import annotations

from enum import StrEnum

from psycopg import AsyncConnection

from mosaic_gateway.auth import setup_tokens, users
from mosaic_gateway.auth.better_auth_format import utc_now
from mosaic_gateway.auth.errors import AdminExistsError, SetupTokenError
from mosaic_gateway.auth.setup_tokens import SetupToken
from mosaic_gateway.auth.users import NewUser, User, insert_user
from mosaic_gateway.hint import command

__all__ = [
    "LinkState",
    "check_claim",
    "claim_first_admin",
    "create_first_admin",
    "create_user",
    "issue_setup_token",
    "link_state",
    "needs_setup",
]

#: First 8 bytes of SHA-256("mosaic-gateway first admin") as a signed 64-bit integer.
LOCK_KEY = -209209743756132487
LOCK = f"SELECT pg_advisory_xact_lock({LOCK_KEY})"
#: better-auth's admin plugin joins several roles with commas.
HAS_ADMIN = "SELECT EXISTS (SELECT 1 FROM users WHERE role = 'admin' OR 'admin' = ANY (string_to_array(role, ',')))"


async def needs_setup(connection: AsyncConnection) -> bool:
    """Return whether there is no admin yet."""
    row = await (await connection.execute(HAS_ADMIN)).fetchone()
    return not (row and row[0])


async def issue_setup_token(connection: AsyncConnection) -> SetupToken:
    """Issue a set-up token and invalidate earlier ones. Raises `AdminExistsError`."""
    await _lock_setup(connection)
    return await setup_tokens.issue(connection)


class LinkState(StrEnum):
    """The state of a set-up link. A replaced link is not distinguished from a mistyped one."""

    VALID = "valid"
    USED = "used"
    EXPIRED = "expired"
    REPLACED = "replaced"


async def link_state(connection: AsyncConnection, token: str | None) -> LinkState:
    """Return the state of the link with *token*; writes nothing."""
    if not await needs_setup(connection):
        return LinkState.USED
    expiry = None if token is None else await setup_tokens.expires_at(connection, token)
    if expiry is None:
        return LinkState.REPLACED
    return LinkState.VALID if expiry > utc_now() else LinkState.EXPIRED


async def check_claim(connection: AsyncConnection, token: str | None) -> None:
    """Raise early, before a password is hashed, what `claim_first_admin` would raise; writes nothing."""
    if not await needs_setup(connection):
        raise _admin_exists()
    if token is None or not await setup_tokens.check(connection, token):
        raise _token_invalid()


async def claim_first_admin(
    connection: AsyncConnection, new: NewUser, *, token: str | None, ip_address: str | None = None
) -> User:
    """Create *new* as the first admin and delete *token*.

    Raises `AdminExistsError`, `SetupTokenError` and `UserExistsError`; after each of them the token stays valid.
    """
    await _lock_setup(connection)
    if token is None or not await setup_tokens.consume(connection, token):
        raise _token_invalid()
    return await _insert_admin(connection, new, ip_address)


async def create_first_admin(connection: AsyncConnection, new: NewUser) -> User:
    """Create *new* as the first admin without a token, for the command line; invalidate the set-up token.

    Raises `AdminExistsError` and `UserExistsError`.
    """
    await _lock_setup(connection)
    await setup_tokens.revoke(connection)
    return await _insert_admin(connection, new, None)


async def create_user(
    connection: AsyncConnection, new: NewUser, *, actor_id: str | None = None, ip_address: str | None = None
) -> User:
    """Insert *new*; creating an admin invalidates the set-up token. Raises `UserExistsError`."""
    if "admin" in new.role.split(","):
        await connection.execute(LOCK)
        await setup_tokens.revoke(connection)
    user = await insert_user(connection, new)
    await users.record_action(connection, "user.create", target=user.id, actor_id=actor_id, ip_address=ip_address)
    return user


async def _lock_setup(connection: AsyncConnection) -> None:
    await connection.execute(LOCK)
    if not await needs_setup(connection):
        raise _admin_exists()


async def _insert_admin(connection: AsyncConnection, new: NewUser, ip_address: str | None) -> User:
    if new.role != "admin":
        raise ValueError(new.role)
    user = await insert_user(connection, new)
    await users.record_action(connection, "bootstrap.setup", target=user.id, actor_id=user.id, ip_address=ip_address)
    return user


def _admin_exists() -> AdminExistsError:
    return AdminExistsError(
        "This gateway already has an admin",
        hint="Sign in, or set a password: " + command("auth users set-password"),
    )


def _token_invalid() -> SetupTokenError:
    return SetupTokenError(
        "The set-up link is invalid: used, replaced, mistyped, or older than 24 hours",
        hint="Create a new one: " + command("bootstrap link"),
    )
