from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import pytest
from tests.support.http_gateway import Gateway

SETUP = "/api/bootstrap/setup"
PERSON = {"name": " Ada Lovelace ", "email": "Ada@Example.com", "password": "pässwörd \ud800 \x00"}


def test_set_up_from_link_to_signed_in(http_gateway: Gateway) -> None:
    """A set-up with the token creates the admin and signs in; further set-ups are refused."""
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
    assert http_gateway.sql("SELECT action, actor_id, target, ip_address FROM audit_log ORDER BY id") == [
        ("bootstrap.setup", user["id"], user["id"], "127.0.0.1"),
        ("sign-in.succeeded", user["id"], user["id"], "127.0.0.1"),
    ]
    assert http_gateway.sql("SELECT count(*) FROM verifications") == [(0,)]


def test_fifty_concurrent_set_ups_create_one_admin(http_gateway: Gateway) -> None:
    """Of 50 concurrent set-ups with one valid token exactly one gets 201, and one admin exists."""
    token = http_gateway.token()

    def call(number: int) -> int:
        person = {"name": "Ada", "email": f"ada{number}@example.com", "password": "long enough", "token": token}
        return http_gateway.elsewhere().post(SETUP, person).status

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
def test_invalid_fields_are_reported_before_the_token_is_checked(
    http_shared: Gateway, change: dict[str, object], code: str, message: str
) -> None:
    """Invalid values give 400 with better-auth's code, also with a wrong token."""
    answer = http_shared.post(SETUP, {**PERSON, **change}, x_setup_token="wrong")
    assert (answer.status, answer.json["code"]) == (400, code)
    assert answer.json["message"].startswith(message)


def test_empty_body(http_shared: Gateway) -> None:
    """``{}`` gives 400 with every field, and a missing body 400, as the smoke test expects."""
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


def test_only_the_valid_token_is_accepted(http_gateway: Gateway) -> None:
    """Missing, wrong, replaced and expired tokens give 403 and change nothing; the last token issued is valid."""

    def attempt(**token: str) -> tuple[int, str]:
        answer = http_gateway.elsewhere().post(SETUP, PERSON, **token)
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


def test_duplicate_address_does_not_consume_the_token(http_gateway: Gateway) -> None:
    """In an adopted database without an admin, a duplicate address gives 409 and the token stays valid."""
    http_gateway.sql("INSERT INTO users (id, name, email, role) VALUES ('u', 'Old', 'ada@example.com', 'user')")
    token = http_gateway.token()
    answer = http_gateway.post(SETUP, PERSON, x_setup_token=token)
    assert (answer.status, answer.json["code"]) == (409, "USER_EXISTS")
    assert http_gateway.post(SETUP, {**PERSON, "email": "new@example.com"}, x_setup_token=token).status == 201


def test_admin_with_several_roles(http_gateway: Gateway) -> None:
    """``admin`` is found among comma-separated roles, and not as part of another role's name."""
    http_gateway.sql("INSERT INTO users (id, name, email, role) VALUES ('u', 'U', 'u@example.com', 'administrator')")
    assert http_gateway.get("/api/bootstrap/status").json == {"needsSetup": True}
    http_gateway.sql("UPDATE users SET role = 'user,admin'")
    assert http_gateway.get("/api/bootstrap/status").json == {"needsSetup": False}
