from __future__ import annotations

import re
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import pytest
from tests.support.http_gateway import Answer, Gateway

from mosaic_gateway.auth.cookies import Cookies
from mosaic_gateway.config import Secret

if TYPE_CHECKING:
    from collections.abc import Callable
    from contextlib import AbstractContextManager

SIGN_IN = "/api/auth/sign-in/email"
SIGN_OUT = "/api/auth/sign-out"
SESSION = "/api/auth/get-session"
EMAIL = "asa@example.com"
PASSWORD = "correct horse battery staple"
#: Created by better-auth 1.7.25 for PASSWORD.
HASH = (
    "70c49e661843a69b8dd0cda238182e6a:5a243f02e4a1f76f302925cea6cc00c74fa42c0a4566d34bd581e23de547630d"
    "4623087bca79765888e7f401c982910d74cd5afd6ca8b68e9ff14f7efe24147e"
)
USER_KEYS = [
    "name",
    "email",
    "emailVerified",
    "image",
    "createdAt",
    "updatedAt",
    "role",
    "banned",
    "banReason",
    "banExpires",
    "id",
]
SESSION_KEYS = [
    "expiresAt",
    "token",
    "createdAt",
    "updatedAt",
    "ipAddress",
    "userAgent",
    "userId",
    "impersonatedBy",
    "id",
]
CLEARED = tuple(
    f"better-auth.{name}=; Max-Age=0; Path=/; HttpOnly; SameSite=Lax"
    for name in ("session_token", "session_data", "dont_remember")
)
TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z")


@pytest.fixture
def gateway(http_gateway: Gateway) -> Gateway:
    """A gateway on a database with one user, as created by better-auth."""
    add_user(http_gateway)
    return http_gateway


def add_user(gateway: Gateway) -> None:
    """Insert the rows of a sign-up with better-auth; created_at has microseconds to test their truncation."""
    gateway.sql(
        "INSERT INTO users (id, name, email, email_verified, role, banned, created_at, updated_at)"
        " VALUES ('user1', 'Åsa', %s, false, 'user', false, '2026-01-02 03:04:05.678901', '2026-01-02 03:04:05')",
        EMAIL,
    )
    gateway.sql(
        "INSERT INTO accounts (id, account_id, provider_id, user_id, password, created_at, updated_at)"
        " VALUES ('account1', 'user1', 'credential', 'user1', %s, now(), now())",
        HASH,
    )


def sign_in(gateway: Gateway, **changes: object) -> Answer:
    """Sign in; *changes* are merged into the body."""
    return gateway.post(SIGN_IN, {"email": EMAIL, "password": PASSWORD, **changes}, user_agent="Tést/1")


def test_session_from_sign_in_to_sign_out(gateway: Gateway) -> None:
    """The responses of sign-in, get-session and sign-out equal better-auth's."""
    answer = sign_in(gateway, email="ASA@example.com")
    assert answer.status == 200
    assert list(answer.json) == ["redirect", "token", "user"]
    assert answer.json["redirect"] is False
    assert list(answer.json["user"]) == USER_KEYS
    token = answer.json["token"]
    assert re.fullmatch("[A-Za-z0-9]{32}", token)
    assert len(answer.cookies) == 2
    assert re.fullmatch(
        rf"better-auth\.session_token={token}\.[A-Za-z0-9%]+%3D; Max-Age=604800; Path=/; HttpOnly; SameSite=Lax",
        answer.cookies[0],
    )
    assert re.fullmatch(
        r"better-auth\.known_device=device%3A[0-9a-f]{32}%3A[A-Za-z0-9]{32}\.[A-Za-z0-9%]+%3D; Max-Age=31536000;"
        " Path=/; HttpOnly; SameSite=Lax",
        answer.cookies[1],
    )

    current = gateway.get(SESSION, cookie=answer.cookie)
    assert current.headers["cache-control"] == "no-store"
    assert current.headers["content-type"] == "application/json"
    assert not current.cookies
    assert list(current.json) == ["session", "user"]
    session = current.json["session"]
    assert list(session) == SESSION_KEYS
    assert current.json["user"] == answer.json["user"]
    assert current.json["user"]["createdAt"] == "2026-01-02T03:04:05.678Z"
    assert (session["token"], session["ipAddress"], session["userId"]) == (token, "127.0.0.1", "user1")
    assert session["userAgent"] == "Tést/1"
    assert all(TIME.fullmatch(session[key]) for key in ("expiresAt", "createdAt", "updatedAt"))
    assert gateway.sql("SELECT expires_at - created_at = interval '7 days' FROM sessions") == [(True,)]
    signed = answer.headers["set-auth-token"]
    assert answer.cookie.startswith(f"better-auth.session_token={signed};")
    assert gateway.get(SESSION, authorization=f"Bearer {signed}").json == current.json
    assert gateway.get(SESSION, authorization=f"Bearer {token}").json is None

    out = gateway.request("POST", SIGN_OUT, headers={"cookie": answer.cookie, "origin": gateway.origin})
    assert (out.status, out.json, out.cookies) == (200, {"success": True}, CLEARED)
    assert gateway.sql("SELECT count(*) FROM sessions") == [(0,)]
    gone = gateway.get(SESSION, cookie=answer.cookie)
    assert (gone.status, gone.body, gone.cookies) == (200, b"null", CLEARED)


def test_remember_me_false(gateway: Gateway) -> None:
    """``rememberMe: false`` gives a session of one day, and cookies that end with the browser."""
    answer = sign_in(gateway, rememberMe=False)
    assert [re.sub("=.*?;", ";", cookie, count=1) for cookie in answer.cookies] == [
        "better-auth.session_token; Path=/; HttpOnly; SameSite=Lax",
        "better-auth.dont_remember; Path=/; HttpOnly; SameSite=Lax",
        "better-auth.known_device; Max-Age=31536000; Path=/; HttpOnly; SameSite=Lax",
    ]
    assert gateway.sql("SELECT expires_at - created_at = interval '1 day' FROM sessions") == [(True,)]
    assert gateway.get(SESSION, cookie=answer.cookie).json["user"]["email"] == EMAIL


def test_sign_in_with_a_form(gateway: Gateway) -> None:
    """Sign-in accepts a form as well as JSON, like better-auth."""
    answer = gateway.request(
        "POST", SIGN_IN, raw=b"email=asa%40example.com&password=correct+horse+battery+staple",
        headers={"content-type": "application/x-www-form-urlencoded"},
    )  # fmt: skip
    assert answer.status == 200


def test_refused_sign_ins(gateway: Gateway) -> None:
    """Wrong password, unknown user, missing account and malformed hash give the same response and no session."""
    refused = {"message": "Invalid email or password", "code": "INVALID_EMAIL_OR_PASSWORD"}
    answers = [sign_in(gateway, password="wrong"), sign_in(gateway, email="unknown@example.com")]
    for stored in ("garbage", None):
        gateway.sql("UPDATE accounts SET password = %s", stored)
        answers.append(sign_in(gateway.elsewhere()))
    gateway.sql("DELETE FROM accounts")
    gateway.sql("DELETE FROM rate_limits")  # the attempts on the account
    answers.append(sign_in(gateway.elsewhere()))
    assert [(answer.status, answer.json, answer.cookies) for answer in answers] == [(401, refused, ())] * 5
    assert gateway.sql("SELECT count(*) FROM sessions") == [(0,)]


def test_bans(gateway: Gateway) -> None:
    """A banned user is refused until the ban expires; then the ban is lifted."""
    gateway.sql("UPDATE users SET banned = true, ban_reason = 'spam'")
    answer = sign_in(gateway)
    assert (answer.status, answer.json["code"]) == (403, "BANNED_USER")
    gateway.sql("UPDATE users SET ban_expires = now() - interval '1 minute'")
    answer = sign_in(gateway)
    assert (answer.status, answer.json["user"]["banned"]) == (200, False)
    assert gateway.sql("SELECT banned, ban_reason, ban_expires FROM users") == [(False, None, None)]


def test_expired_session(gateway: Gateway) -> None:
    """An expired session gives ``null``, is deleted and its cookies cleared; without a token none are cleared."""
    gateway.sql(
        "INSERT INTO sessions (id, token, user_id, expires_at, updated_at)"
        " VALUES ('s1', 'old', 'user1', now() - interval '1 second', now()),"
        " ('s2', 'new', 'user1', now() + interval '1 minute', now())"
    )
    cookies = Cookies(Secret("a secret of at least thirty-two characters"), "http://x")
    old, new = (cookies.signed_in(token, remember=True)[0].split(";")[0] for token in ("old", "new"))
    assert gateway.get(SESSION, cookie=new).json["session"]["ipAddress"] is None
    expired = gateway.get(SESSION, cookie=old)
    assert (expired.body, expired.cookies) == (b"null", CLEARED)
    assert gateway.sql("SELECT token FROM sessions") == [("new",)]
    for headers in ({}, {"cookie": new.replace("=new.", "=new.x")}, {"authorization": "Basic x"}):
        answer = gateway.request("GET", SESSION, headers=headers)
        assert (answer.status, answer.body, answer.cookies) == (200, b"null", ())


def test_https_base_url(http_database: str, http_run: Callable[..., AbstractContextManager[Gateway]]) -> None:
    """With an https base URL the cookies are Secure."""
    with http_run(http_database, base_url="https://gateway.example.com") as gateway:
        answer = gateway.request("POST", SIGN_OUT)
        assert answer.cookies[0] == (
            "__Secure-better-auth.session_token=; Max-Age=0; Path=/; HttpOnly; Secure; SameSite=Lax"
        )


@pytest.mark.parametrize(
    ("body", "code", "message"),
    [
        ({}, "VALIDATION_ERROR",
         ("[body.email] Invalid input: expected string, received undefined;"
          " [body.password] Invalid input: expected string, received undefined")),
        ({"email": "a@b.co", "password": "x", "rememberMe": "yes"}, "VALIDATION_ERROR",
         "[body.rememberMe] Invalid input: expected boolean, received string"),
        ([], "VALIDATION_ERROR", "[body] Invalid input: expected object, received array"),
        ({"email": "admin@localhost", "password": "x"}, "INVALID_EMAIL", "Invalid email"),
        ({"email": "a\x00@b.co", "password": "x"}, "INVALID_EMAIL", "Invalid email"),
        ({"email": "\ud800@b.co", "password": "x"}, "INVALID_EMAIL", "Invalid email"),
        ({"email": "a@b.co", "password": "x" * 129}, "PASSWORD_TOO_LONG", "Password too long"),
    ],
)  # fmt: skip
def test_invalid_sign_in_bodies(http_shared: Gateway, body: object, code: str, message: str) -> None:
    """Invalid values give 400 with better-auth's code and message."""
    answer = http_shared.post(SIGN_IN, body)
    assert (answer.status, answer.json) == (400, {"message": message, "code": code})


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", SIGN_IN), ("POST", SESSION), ("DELETE", SIGN_OUT), ("GET", f"{SESSION}/"), ("POST", f"{SIGN_IN}/"),
        ("GET", "/api/auth/nope"), ("GET", "/api/auth/"), ("PUT", "/api/auth/a/b"),
    ],
)  # fmt: skip
def test_unknown_auth_paths_give_an_empty_404(http_shared: Gateway, method: str, path: str) -> None:
    """Unknown path, wrong method and trailing slash give 404 without a body, like better-auth."""
    answer = http_shared.request(method, path)
    assert (answer.status, answer.body) == (404, b"")


def test_concurrent_sign_ins(gateway: Gateway) -> None:
    """Concurrent sign-ins, from devices that the account knows, each get a token of their own."""
    clients = [gateway.elsewhere() for _ in range(6)]
    devices = [sign_in(client).cookie for client in clients]

    def again(client: Gateway, device: str) -> Answer:
        return client.post(SIGN_IN, {"email": EMAIL, "password": PASSWORD}, cookie=device, origin=client.origin)

    with ThreadPoolExecutor(8) as threads:
        tokens = {answer.json["token"] for answer in threads.map(again, clients, devices)}
    assert len(tokens) == 6
