"""The first admin: made once, by whoever holds the set-up token or the machine itself.

Theory of operation. Everything that decides on "is there an admin?" and then writes takes one
transaction-level advisory lock first; a plain check-then-create let 12 of 12 concurrent calls through.
The lock is waited for in a statement of its own, and the connection is READ COMMITTED
(`connection.SETTINGS`), so the check after it sees what the previous holder committed. The token is
deleted in the transaction that makes the admin: both happen or neither.
"""

from __future__ import annotations

from psycopg import AsyncConnection

from mosaic_gateway.auth import audit, setup_tokens
from mosaic_gateway.auth.errors import AdminExistsError, SetupTokenError
from mosaic_gateway.auth.setup_tokens import SetupToken
from mosaic_gateway.auth.users import NewUser, User, insert_user

__all__ = ["check_claim", "claim_first_admin", "create_first_admin", "create_user", "issue_setup_token", "needs_setup"]

#: First 8 bytes of SHA-256("mosaic-gateway first admin") as a signed 64-bit integer.
LOCK_KEY = -209209743756132487
LOCK = f"SELECT pg_advisory_xact_lock({LOCK_KEY})"
#: better-auth's admin plugin joins several roles with commas.
HAS_ADMIN = "SELECT EXISTS (SELECT 1 FROM users WHERE role = 'admin' OR 'admin' = ANY (string_to_array(role, ',')))"


async def needs_setup(connection: AsyncConnection) -> bool:
    """Say whether no user is an admin yet."""
    row = await (await connection.execute(HAS_ADMIN)).fetchone()
    return not (row and row[0])


async def issue_setup_token(connection: AsyncConnection) -> SetupToken:
    """Make the one valid set-up token; older ones stop working. Raises `AdminExistsError`."""
    await _lock_setup(connection)
    return await setup_tokens.issue(connection)


async def check_claim(connection: AsyncConnection, token: str | None) -> None:
    """Say early, before a password is hashed, what `claim_first_admin` would refuse; writes nothing."""
    if not await needs_setup(connection):
        raise _admin_exists()
    if token is None or not await setup_tokens.check(connection, token):
        raise _token_invalid()


async def claim_first_admin(
    connection: AsyncConnection, new: NewUser, *, token: str | None, ip_address: str | None = None
) -> User:
    """Make *new* the first admin in exchange for *token*, which is used up.

    Raises `AdminExistsError`, `SetupTokenError` and `UserExistsError`; the token survives each of them.
    """
    await _lock_setup(connection)
    if token is None or not await setup_tokens.consume(connection, token):
        raise _token_invalid()
    return await _insert_admin(connection, new, ip_address)


async def create_first_admin(connection: AsyncConnection, new: NewUser) -> User:
    """Make *new* the first admin; for the command line, which needs no token.

    Outstanding tokens stop working. Raises `AdminExistsError` and `UserExistsError`.
    """
    await _lock_setup(connection)
    await setup_tokens.revoke(connection)
    return await _insert_admin(connection, new, None)


async def create_user(connection: AsyncConnection, new: NewUser) -> User:
    """Add *new*; an admin may be the first one, which ends set-up. Raises `UserExistsError`."""
    if new.role == "admin":
        await connection.execute(LOCK)
        await setup_tokens.revoke(connection)
    user = await insert_user(connection, new)
    await audit.record(connection, "user.create", target=user.id)
    return user


async def _lock_setup(connection: AsyncConnection) -> None:
    await connection.execute(LOCK)
    if not await needs_setup(connection):
        raise _admin_exists()


async def _insert_admin(connection: AsyncConnection, new: NewUser, ip_address: str | None) -> User:
    if new.role != "admin":
        raise ValueError(new.role)
    user = await insert_user(connection, new)
    await audit.record(connection, "bootstrap.setup", target=user.id, actor_id=user.id, ip_address=ip_address)
    return user


def _admin_exists() -> AdminExistsError:
    return AdminExistsError(
        "This gateway has an admin already", hint="Sign in, or set a password: mosaic-gateway auth users set-password"
    )


def _token_invalid() -> SetupTokenError:
    return SetupTokenError(
        "The set-up link is not valid: it was used, replaced, mistyped, or is older than a day",
        hint="Make a new one: mosaic-gateway bootstrap link",
    )
