"""Users and sessions in the database of a gateway under test, written without hashing a password."""

from __future__ import annotations

import psycopg

from mosaic_gateway.auth.better_auth_format import new_id
from mosaic_gateway.auth.cookies import Cookies
from mosaic_gateway.config import Secret

__all__ = ["PASSWORD", "USERS", "add_users", "cookie_of"]

PASSWORD = "correct horse battery staple"
#: Created by better-auth 1.7.25 for PASSWORD.
HASH = (
    "70c49e661843a69b8dd0cda238182e6a:5a243f02e4a1f76f302925cea6cc00c74fa42c0a4566d34bd581e23de547630d"
    "4623087bca79765888e7f401c982910d74cd5afd6ca8b68e9ff14f7efe24147e"
)
#: Id -> role; the address of each is <id>@example.com, the password PASSWORD.
USERS = {"admin1": "admin", "admin2": "user,admin", "user1": "user", "user2": None}
SECRET = Secret("a secret of at least thirty-two characters")


def add_users(conninfo: str) -> None:
    """Insert `USERS`, a day after each other."""
    with psycopg.connect(conninfo, autocommit=True) as connection:
        for day, (user_id, role) in enumerate(USERS.items(), start=1):
            connection.execute(
                "INSERT INTO users (id, name, email, email_verified, role, banned, created_at, updated_at)"
                " VALUES (%s, %s, %s, false, %s, false, %s, '2026-01-05')",
                (user_id, user_id.title(), f"{user_id}@example.com", role, f"2026-01-0{day} 03:04:05.678"),
            )
            connection.execute(
                "INSERT INTO accounts (id, account_id, provider_id, user_id, password, created_at, updated_at)"
                " VALUES (%s, %s, 'credential', %s, %s, now(), now())",
                (f"account-{user_id}", user_id, user_id, HASH),
            )


def cookie_of(conninfo: str, user_id: str, *, age: str = "0 seconds", remember: bool = True) -> str:
    """Insert a session of *user_id* that began *age* ago, and return the Cookie header of its browser."""
    token = new_id()
    with psycopg.connect(conninfo, autocommit=True) as connection:
        connection.execute(
            "INSERT INTO sessions (id, token, user_id, expires_at, created_at, updated_at, ip_address, user_agent)"
            " VALUES (%s, %s, %s, now() + interval '6 days 23 hours', now() - %s::interval, now(), '', '')",
            (new_id(), token, user_id, age),
        )
    cookies = Cookies(SECRET, "http://gateway").signed_in(token, remember=remember)
    return "; ".join(cookie.split(";")[0] for cookie in cookies)
