from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from tests.integration.conftest import Gateway

SETUP = "/api/bootstrap/setup"
PERSON = {"name": " Ada Lovelace ", "email": "Ada@Example.com", "password": "pässwörd \ud800 \x00"}


def test_set_up_from_link_to_signed_in(http_gateway: Gateway) -> None:
    """The holder of the token becomes the admin, is signed in, and the door closes behind."""
    assert http_gateway.get("/api/bootstrap/status").json == {"needsSetup": True}
    token = http_gateway.token()
    answer = http_gateway.post(SETUP, PERSON, x_setup_token=token)
    assert answer.status == 201
    user = answer.json["user"]
    assert (user["name"], user["email"], user["role"]) == ("Ada Lovelace", "ada@example.com", "admin")
    assert http_gateway.get("/api/auth/get-session", cookie=answer.cookie).json["user"] == user
    assert http_gateway.get("/api/bootstrap/status").json == {"needsSetup": False}
    again = http_gateway.post(SETUP, PERSON, x_setup_token=token)
    assert (again.status, again.json["code"]) == (409, "ADMIN_EXISTS")
    signed_in = http_gateway.post("/api/auth/sign-in/email", {"email": PERSON["email"], "password": PERSON["password"]})
    assert signed_in.status == 200
    assert http_gateway.sql("SELECT action, actor_id, target, ip_address FROM audit_log") == [
        ("bootstrap.setup", user["id"], user["id"], "127.0.0.1")
    ]
    assert http_gateway.sql("SELECT count(*) FROM verifications") == [(0,)]


def test_fifty_calls_at_once_make_one_admin(http_gateway: Gateway) -> None:
    """Of 50 set-ups at once with one valid token exactly one is answered 201 and one admin exists."""
    token = http_gateway.token()

    def call(number: int) -> int:
        person = {"name": "Ada", "email": f"ada{number}@example.com", "password": "long enough", "token": token}
        return http_gateway.post(SETUP, person).status

    with ThreadPoolExecutor(50) as threads:
        statuses = sorted(threads.map(call, range(50)))
    assert statuses[0] == 201
    assert set(statuses[1:]) <= {403, 409}
    assert http_gateway.sql("SELECT count(*), min(role) FROM users") == [(1, "admin")]
    assert http_gateway.sql("SELECT count(*) FROM accounts") == [(1,)]
    assert http_gateway.sql("SELECT count(*) FROM sessions") == [(1,)]


@pytest.mark.parametrize(
    ("change", "code", "message"),
    [
        ({"name": None}, "VALIDATION_ERROR", "[body.name] Invalid input: expected string, received null"),
        ({"name": 5, "email": []}, "VALIDATION_ERROR",
         ("[body.name] Invalid input: expected string, received number;"
          " [body.email] Invalid input: expected string, received array")),
        ({"name": ""}, "VALIDATION_ERROR", "[body.name] Invalid input: Give a name"),
        ({"name": "x" * 100_000}, "VALIDATION_ERROR", "[body.name] Invalid input: Give a name"),
        ({"name": "a\x00b"}, "VALIDATION_ERROR", "[body.name] Invalid input: Give a name"),
        ({"name": "\ud800"}, "VALIDATION_ERROR", "[body.name] Invalid input: Give a name"),
        ({"email": "admin@localhost"}, "INVALID_EMAIL", "Invalid email"),
        ({"email": "a\x00@b.co"}, "INVALID_EMAIL", "Invalid email"),
        ({"email": f"{'a' * 5000}@b.co"}, "INVALID_EMAIL", "Invalid email"),
        ({"password": "short"}, "PASSWORD_TOO_SHORT", "Password too short"),
        ({"password": "x" * 129}, "PASSWORD_TOO_LONG", "Password too long"),
    ],
)  # fmt: skip
def test_each_bad_field_is_named_before_the_token_is_looked_at(
    http_shared: Gateway, change: dict[str, object], code: str, message: str
) -> None:
    """Bad values get 400 with better-auth's code, and the token stays good."""
    answer = http_shared.post(SETUP, {**PERSON, **change}, x_setup_token="wrong")
    assert (answer.status, answer.json["code"]) == (400, code)
    assert answer.json["message"].startswith(message)


def test_an_empty_body_names_every_field(http_shared: Gateway) -> None:
    """``{}`` and no body at all get 400, as the smoke test expects."""
    answer = http_shared.post(SETUP, {})
    issues = [
        f"[body.{name}] Invalid input: expected string, received undefined" for name in ("name", "email", "password")
    ]
    assert answer.status == 400
    assert answer.json == {"message": "; ".join(issues), "code": "VALIDATION_ERROR"}
    assert http_shared.post(SETUP).json == {
        "message": "[body] Invalid input: expected object, received undefined",
        "code": "VALIDATION_ERROR",
    }


def test_only_the_valid_token_opens(http_gateway: Gateway) -> None:
    """Missing, wrong, replaced and expired tokens get 403 and change nothing; the last one issued works."""

    def attempt(**token: str) -> tuple[int, str]:
        answer = http_gateway.post(SETUP, PERSON, **token)
        return answer.status, answer.json["code"]

    assert attempt() == (403, "SETUP_TOKEN_INVALID")
    first, second = http_gateway.token(), http_gateway.token()
    for wrong in (
        "x",
        "é",
        first,
        second[:-1],
        second + "A",
        http_gateway.sql("SELECT value FROM verifications")[0][0],
    ):
        assert attempt(x_setup_token=wrong) == (403, "SETUP_TOKEN_INVALID")
    http_gateway.sql("UPDATE verifications SET expires_at = now() AT TIME ZONE 'UTC' - interval '1 second'")
    assert attempt(x_setup_token=second) == (403, "SETUP_TOKEN_INVALID")
    assert http_gateway.sql("SELECT count(*) FROM users") == [(0,)]
    assert http_gateway.post(SETUP, {**PERSON, "token": http_gateway.token()}).status == 201


def test_an_address_in_use_keeps_the_token_good(http_gateway: Gateway) -> None:
    """In an adopted database without an admin, a taken address gets 409 and the link still works."""
    http_gateway.sql("INSERT INTO users (id, name, email, role) VALUES ('u', 'Old', 'ada@example.com', 'user')")
    token = http_gateway.token()
    answer = http_gateway.post(SETUP, PERSON, x_setup_token=token)
    assert (answer.status, answer.json["code"]) == (409, "USER_EXISTS")
    assert http_gateway.post(SETUP, {**PERSON, "email": "new@example.com"}, x_setup_token=token).status == 201


def test_an_admin_of_several_roles_is_an_admin(http_gateway: Gateway) -> None:
    """better-auth joins roles with commas; a lookalike is none."""
    http_gateway.sql("INSERT INTO users (id, name, email, role) VALUES ('u', 'U', 'u@example.com', 'administrator')")
    assert http_gateway.get("/api/bootstrap/status").json == {"needsSetup": True}
    http_gateway.sql("UPDATE users SET role = 'user,admin'")
    assert http_gateway.get("/api/bootstrap/status").json == {"needsSetup": False}
