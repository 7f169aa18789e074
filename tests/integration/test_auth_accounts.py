from __future__ import annotations

import asyncio
import logging

import psycopg
import pytest
from psycopg import AsyncConnection

from mosaic_gateway.auth import accounts, setup
from mosaic_gateway.auth.connection import SETTINGS, run_on
from mosaic_gateway.auth.errors import (
    AdminExistsError,
    DatabaseUnavailableError,
    SchemaMissingError,
    SetupTokenError,
    UserExistsError,
    UserNotFoundError,
)
from mosaic_gateway.auth.passwords import verify_password
from mosaic_gateway.auth.users import NewUser
from mosaic_gateway.errors import ExitCode, MosaicError

PASSWORD = "a long password"


def rows(conninfo: str, statement: str) -> list[tuple[object, ...]]:
    """Return the rows of *statement*."""
    with psycopg.connect(conninfo, autocommit=True) as connection:
        return connection.execute(statement.encode()).fetchall()


def test_user_management(http_database: str) -> None:
    """Set-up, creation, listing and a new password write better-auth's rows and the audit log."""
    assert accounts.needs_setup(http_database)
    admin = accounts.setup_first_admin(http_database, name="Ada", email="Ada@Example.com", password=PASSWORD)
    assert not accounts.needs_setup(http_database)
    with pytest.raises(AdminExistsError) as caught:
        accounts.issue_setup_token(http_database)
    assert caught.value.exit_code is ExitCode.REFUSED
    bob = accounts.create_user(http_database, name="Bob", email="bob@example.com", password=PASSWORD)
    assert accounts.list_users(http_database) == (admin, bob)
    assert (admin.email, admin.role, bob.role) == ("ada@example.com", "admin", "user")
    assert rows(http_database, "SELECT email_verified, banned FROM users") == [(False, False)] * 2

    with psycopg.connect(http_database) as connection:
        connection.execute(
            "INSERT INTO sessions (id, token, user_id, expires_at, updated_at)"
            " SELECT id, id, id, now() + interval '1 day', now() FROM users"
        )
    accounts.set_password(http_database, email="BOB@example.com", password="another password")
    assert rows(http_database, "SELECT user_id FROM sessions") == [(admin.id,)]
    stored = rows(http_database, f"SELECT password, account_id, provider_id FROM accounts WHERE user_id = '{bob.id}'")
    assert len(stored) == 1
    assert stored[0][1:] == (bob.id, "credential")
    assert verify_password(str(stored[0][0]), "another password")
    assert rows(http_database, "SELECT action, target FROM audit_log ORDER BY id") == [
        ("bootstrap.setup", admin.id),
        ("user.create", bob.id),
        ("user.set-password", bob.id),
    ]


def test_set_password_creates_a_missing_account(http_database: str) -> None:
    """Setting the password of a user without a password account creates the account."""
    with psycopg.connect(http_database) as connection:
        connection.execute("INSERT INTO users (id, name, email) VALUES ('u', 'U', 'u@example.com')")
    accounts.set_password(http_database, email="u@example.com", password=PASSWORD)
    assert rows(http_database, "SELECT user_id, provider_id FROM accounts") == [("u", "credential")]


def test_errors(http_database: str, database: str) -> None:
    """Duplicate addresses, unknown users, a missing schema and a missing server each have their own error."""
    accounts.create_user(http_database, name="Ada", email="ada@example.com", password=PASSWORD)
    with pytest.raises(UserExistsError):
        accounts.create_user(http_database, name="Ada", email="ADA@example.com", password=PASSWORD)
    assert rows(http_database, "SELECT count(*) FROM accounts") == [(1,)]
    for email in ("unknown@example.com", "nul\x00@example.com", "\ud800"):
        with pytest.raises(UserNotFoundError):
            accounts.set_password(http_database, email=email, password=PASSWORD)
    with pytest.raises(SchemaMissingError):
        accounts.needs_setup(database)
    with pytest.raises(DatabaseUnavailableError) as caught:
        accounts.needs_setup("host=/nowhere dbname=x password=hunter2")
    assert "hunter2" not in str(caught.value)
    assert isinstance(caught.value, MosaicError)


def test_a_new_admin_ends_set_up(http_database: str) -> None:
    """Creating an admin in any way invalidates the set-up link."""
    token = accounts.issue_setup_token(http_database)
    assert token.token.reveal() not in repr(token)
    assert rows(http_database, "SELECT identifier FROM verifications") == [("bootstrap-setup",)]
    accounts.create_user(http_database, name="Ada", email="ada@example.com", password=PASSWORD, role="admin")
    assert rows(http_database, "SELECT count(*) FROM verifications") == [(0,)]
    assert not accounts.needs_setup(http_database)


@pytest.mark.parametrize("isolation", ["read committed", "repeatable read"])
def test_concurrent_claims_create_one_admin(http_database: str, isolation: str) -> None:
    """Of 12 concurrent transactions, one creates the admin and consumes the token, at any default isolation level."""
    with psycopg.connect(http_database, autocommit=True) as connection:
        connection.execute(
            f"ALTER DATABASE {connection.info.dbname} SET default_transaction_isolation = '{isolation}'".encode()
        )
    token = accounts.issue_setup_token(http_database).token.reveal()

    async def claim(number: int) -> str:
        connection = await AsyncConnection.connect(http_database, autocommit=True)
        async with connection:
            await connection.execute(SETTINGS)
            new = NewUser(name="Ada", email=f"ada{number}@example.com", password_hash="x", role="admin")
            try:
                async with connection.transaction():
                    await setup.check_claim(connection, token)
                    await asyncio.sleep(0.05)
                    await setup.claim_first_admin(connection, new, token=token)
            except (AdminExistsError, SetupTokenError) as error:
                return error.code
        return "created"

    async def main() -> list[str]:
        return await asyncio.gather(*(claim(number) for number in range(12)))

    outcomes = asyncio.run(main())
    assert outcomes.count("created") == 1
    assert rows(http_database, "SELECT count(*) FROM users") == [(1,)]


@pytest.mark.parametrize("token", [None, "", "wrong"])
def test_claim_checks_the_token(http_database: str, token: str | None) -> None:
    """The transaction that creates the admin checks the token itself, independently of `check_claim`."""
    accounts.issue_setup_token(http_database)
    new = NewUser(name="Ada", email="ada@example.com", password_hash="x", role="admin")
    with pytest.raises(SetupTokenError):
        run_on(http_database, lambda connection: setup.claim_first_admin(connection, new, token=token))
    with pytest.raises(SetupTokenError):
        run_on(http_database, lambda connection: setup.check_claim(connection, token))
    assert rows(http_database, "SELECT count(*) FROM users") == [(0,)]


def test_no_secret_is_logged(http_database: str, caplog: pytest.LogCaptureFixture) -> None:
    """Neither password nor token is written to the log."""
    caplog.set_level(logging.DEBUG)
    token = accounts.issue_setup_token(http_database).token.reveal()
    accounts.setup_first_admin(http_database, name="Ada", email="ada@example.com", password=PASSWORD)
    assert PASSWORD not in caplog.text
    assert token not in caplog.text
