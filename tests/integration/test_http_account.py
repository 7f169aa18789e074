"""What a signed-in user does with the own account; that the answers are better-auth's is tested in tests/interop."""

from __future__ import annotations

import re
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from tests.support.http_gateway import Answer, Gateway, RunGateway
from tests.support.people import PASSWORD, add_users, cookie_of

SESSION = "/api/auth/get-session"
NEW = "another long password"
CLEARED = tuple(f"better-auth.{name}=; Max-Age=0" for name in ("session_token", "session_data", "dont_remember"))


@pytest.fixture
def gateway(http_gateway: Gateway) -> Gateway:
    """A gateway with two admins and two users."""
    add_users(http_gateway.conninfo)
    return http_gateway


def post(gateway: Gateway, path: str, body: object, cookie: str) -> Answer:
    """POST *body* to an endpoint as a page of the gateway would."""
    return gateway.post(f"/api/auth/{path}", body, cookie=cookie, origin=f"http://127.0.0.1:{gateway.port}")


def user_of(gateway: Gateway, cookie: str) -> Any:
    """Return the user that get-session gives, None if no one is signed in."""
    session = gateway.get(SESSION, cookie=cookie).json
    return session and session["user"]


def actions(gateway: Gateway) -> list[tuple[Any, ...]]:
    """Return action, target and actor of the rows of the audit log about accounts and users."""
    return gateway.sql("SELECT action, target, actor_id FROM audit_log WHERE action ~ '^(account|user)[.]' ORDER BY id")


def stored_hash(gateway: Gateway) -> str:
    """Return the stored password hash of user1."""
    return str(gateway.sql("SELECT password FROM accounts WHERE user_id = 'user1'")[0][0])


def test_a_stolen_session_does_not_let_guess_the_password(gateway: Gateway) -> None:
    """Wrong passwords from ever new addresses are limited for the account; the right one in time starts anew."""
    cookie = cookie_of(gateway.conninfo, "user1")

    def verify(password: str) -> int:
        return post(gateway.elsewhere(), "verify-password", {"password": password}, cookie).status

    assert [verify("wrong password"), verify("wrong password"), verify(PASSWORD)] == [400, 400, 200]
    assert [verify("wrong password") for _ in range(5)] == [400, 400, 400, 429, 429]
    assert verify(PASSWORD) == 429


def test_change_password(gateway: Gateway) -> None:
    """A password is changed with the present one; other sessions end on request, and this one gets a new token."""
    here, there = (cookie_of(gateway.conninfo, "user1") for _ in range(2))
    before = stored_hash(gateway)
    wrong = post(gateway, "change-password", {"newPassword": NEW, "currentPassword": "wrong"}, here)
    assert (wrong.status, wrong.json["code"], stored_hash(gateway)) == (400, "INVALID_PASSWORD", before)
    kept = post(gateway, "change-password", {"newPassword": NEW, "currentPassword": PASSWORD}, here)
    assert (kept.status, kept.json["token"], kept.cookies) == (200, None, ())
    assert user_of(gateway, there)["id"] == "user1"
    body = {"newPassword": PASSWORD, "currentPassword": NEW, "revokeOtherSessions": True}
    answer = post(gateway, "change-password", body, here)
    assert answer.json["user"]["id"] == "user1"
    assert [user_of(gateway, cookie) for cookie in (here, there)] == [None, None]
    assert user_of(gateway, answer.cookie)["id"] == "user1"
    assert gateway.sql("SELECT token FROM sessions") == [(answer.json["token"],)]
    assert actions(gateway) == [("account.change-password", "user1", "user1")] * 2


@pytest.mark.parametrize("path", ["change-password", "verify-password", "delete-user"])
def test_guesses_with_a_session_are_limited(gateway: Gateway, path: str) -> None:
    """A fourth request with a password within ten seconds is refused, as at sign-in, and wrong ones are recorded."""
    cookie = cookie_of(gateway.conninfo, "user1")
    body = {"password": "wrong", "currentPassword": "wrong", "newPassword": NEW}
    assert [post(gateway, path, body, cookie).status for _ in range(4)] == [400, 400, 400, 429]
    failures = gateway.sql("SELECT actor_id, target, details->>'code' FROM audit_log WHERE action ~ 'failed'")
    assert failures == [("user1", "user1", "INVALID_PASSWORD")] * 3
    assert gateway.sql("SELECT count(*) FROM audit_log WHERE action = 'password.check-failed'") == [(3,)]


def test_two_changes_of_a_password_at_once(gateway: Gateway) -> None:
    """Of two changes from the same password one succeeds."""
    cookies = [cookie_of(gateway.conninfo, "user1") for _ in range(2)]

    def change(number: int) -> int:
        body = {"newPassword": f"{NEW} {number}", "currentPassword": PASSWORD}
        return post(gateway, "change-password", body, cookies[number]).status

    with ThreadPoolExecutor() as threads:
        assert sorted(threads.map(change, range(2))) == [200, 400]


def test_a_session_for_this_browser_only_stays_one(gateway: Gateway) -> None:
    """Cookies that are sent again end with the browser if the session was not to be remembered."""
    cookie = cookie_of(gateway.conninfo, "user1", remember=False)
    answer = post(gateway, "update-user", {"name": "Neu"}, cookie)
    assert [re.sub("=.*?;", ";", line, count=1) for line in answer.cookies] == [
        "better-auth.session_token; Path=/; HttpOnly; SameSite=Lax",
        "better-auth.dont_remember; Path=/; HttpOnly; SameSite=Lax",
    ]
    remembered = post(gateway, "update-user", {"name": "Neu"}, cookie_of(gateway.conninfo, "user1"))
    assert ["Max-Age=604800" in line for line in remembered.cookies] == [True]


def test_sessions(gateway: Gateway) -> None:
    """The own sessions are listed and revoked: one, the others, all; another user's are not touched."""
    conninfo = gateway.conninfo
    here, *others = (cookie_of(conninfo, "user1") for _ in range(4))
    foreign = cookie_of(conninfo, "user2")
    gateway.sql("UPDATE sessions SET impersonated_by = 'admin1' WHERE token = %s", token_of(others[2]))
    listed = gateway.get("/api/auth/list-sessions", cookie=here).json
    assert [session["token"] for session in listed] == [token_of(cookie) for cookie in (here, *others[:2])]
    for cookie in (foreign, others[0]):
        assert post(gateway, "revoke-session", {"token": token_of(cookie)}, here).json == {"status": True}
    assert [bool(user_of(gateway, cookie)) for cookie in (foreign, *others, here)] == [True, False, True, True, True]
    assert post(gateway, "revoke-other-sessions", {}, here).json == {"status": True}
    assert [bool(user_of(gateway, cookie)) for cookie in (foreign, *others, here)] == [True, *[False] * 3, True]
    gone = post(gateway, "revoke-sessions", {}, here)
    assert [line.startswith(start) for line, start in zip(gone.cookies, CLEARED, strict=True)] == [True] * 3
    assert gateway.sql("SELECT user_id FROM sessions") == [("user2",)]
    assert [action for action, *_ in actions(gateway)] == [
        "account.revoke-session", "account.revoke-other-sessions", "account.revoke-sessions",
    ]  # fmt: skip


def token_of(cookie: str) -> str:
    """Return the session token in a Cookie header."""
    return cookie.partition("=")[2].partition(".")[0]


def test_a_session_of_yesterday_is_not_fresh(gateway: Gateway) -> None:
    """After a day, list-sessions is refused, and delete-user without the password."""
    old = cookie_of(gateway.conninfo, "user1", age="25 hours")
    listed = gateway.get("/api/auth/list-sessions", cookie=old)
    assert (listed.status, listed.json["code"]) == (403, "SESSION_NOT_FRESH")
    deleted = post(gateway, "delete-user", {}, old)
    assert (deleted.status, deleted.json["code"]) == (400, "SESSION_EXPIRED")
    assert post(gateway, "delete-user", {"password": "wrong"}, old).json["code"] == "INVALID_PASSWORD"
    assert post(gateway, "delete-user", {"password": PASSWORD}, old).status == 200
    assert gateway.sql("SELECT count(*) FROM users WHERE id = 'user1'") == [(0,)]


def test_delete_user(gateway: Gateway) -> None:
    """A user is deleted with everything that belongs to the user; the last admin cannot delete themself."""
    user, admin, last = (cookie_of(gateway.conninfo, name) for name in ("user1", "admin1", "admin2"))
    gateway.sql("INSERT INTO api_tokens (id, user_id, name, token_hash) VALUES ('t', 'user1', 'x', 'h')")
    assert post(gateway, "delete-user", {}, user).json == {"success": True, "message": "User deleted"}
    for table in ("sessions", "accounts", "api_tokens"):
        assert gateway.sql(f"SELECT count(*) FROM {table} WHERE user_id = 'user1'") == [(0,)]
    assert post(gateway, "delete-user", {}, admin).status == 200
    refused = post(gateway, "delete-user", {}, last)
    assert (refused.status, refused.json["code"]) == (409, "LAST_ADMIN")
    assert user_of(gateway, last)["id"] == "admin2"
    assert actions(gateway) == [("account.delete", "user1", None), ("account.delete", "admin1", None)]


def test_update_user(gateway: Gateway) -> None:
    """Name and image are set; what PostgreSQL or a page could not hold is refused, and so is what only admins set."""
    cookie = cookie_of(gateway.conninfo, "user1")
    assert post(gateway, "update-user", {"name": " Åsa ", "image": "/a.png"}, cookie).json == {"status": True}
    user = user_of(gateway, cookie)
    assert (user["name"], user["image"], user["role"]) == ("Åsa", "/a.png", "user")
    for body in ({"name": "a\x00b"}, {"name": "\ud800"}, {"name": " "}, {"image": "\x00"}, {"image": "x" * 70000}):
        answer = post(gateway, "update-user", body, cookie)
        assert (answer.status, answer.json["code"]) == (400, "VALIDATION_ERROR")
    for field in ("role", "banned", "banReason", "banExpires"):
        answer = post(gateway, "update-user", {"name": "x", field: "admin"}, cookie)
        assert (answer.status, answer.json["code"]) == (400, "FIELD_NOT_ALLOWED")
    assert user_of(gateway, cookie) == user


def test_an_address_that_services_know_a_user_by_is_not_changed(gateway: Gateway, http_run: RunGateway) -> None:
    """Otherwise a user could take the unused address of another person's account at a service."""
    cookie = cookie_of(gateway.conninfo, "user1")
    with http_run(gateway.conninfo, forward_user="email") as by_email:
        answer = post(by_email, "change-email", {"newEmail": "new@example.com"}, cookie)
        assert (answer.status, answer.json["code"]) == (403, "EMAIL_IS_IDENTITY")
        assert user_of(by_email, cookie)["email"] == "user1@example.com"


def test_change_email(gateway: Gateway) -> None:
    """An address is changed unless it is verified; one that another user has gets the same answer."""
    cookie = cookie_of(gateway.conninfo, "user1")
    for email, stored in (("Other@Example.com", "other@example.com"), ("user2@example.com", "other@example.com")):
        answer = post(gateway, "change-email", {"newEmail": email}, cookie)
        assert (answer.status, answer.json) == (200, {"status": True})
        assert user_of(gateway, cookie)["email"] == stored
    gateway.sql("UPDATE users SET email_verified = true")
    assert post(gateway, "change-email", {"newEmail": "third@example.com"}, cookie).status == 400
    details = gateway.sql("SELECT details FROM audit_log WHERE action = 'account.change-email'")[0][0]
    assert (details["formerEmail"], details["email"]) == ("user1@example.com", "other@example.com")


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("change-password", {"newPassword": NEW, "currentPassword": PASSWORD}),
        ("delete-user", {"password": PASSWORD}),
        ("admin/set-user-password", {"userId": "user2", "newPassword": NEW}),
        ("admin/create-user", {"email": "new@example.com", "password": NEW, "name": "New"}),
    ],
)
def test_a_session_revoked_during_a_request(
    gateway: Gateway, path: str, body: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A request whose session is revoked while its password is hashed changes nothing and is answered 401."""
    from mosaic_gateway.auth.passwords import Hasher  # noqa: PLC0415

    cookie = cookie_of(gateway.conninfo, "admin1")
    state = "SELECT (SELECT count(*) FROM users), (SELECT string_agg(password, ',' ORDER BY id) FROM accounts)"
    before = gateway.sql(state)
    original = Hasher.run

    async def run(self: Hasher, *arguments: Any, **options: Any) -> Any:
        result = await original(self, *arguments, **options)
        gateway.sql("DELETE FROM sessions")
        return result

    monkeypatch.setattr(Hasher, "run", run)
    answer = post(gateway, path, body, cookie)
    assert (answer.status, len(answer.cookies), gateway.sql(state)) == (401, 3, before)


def test_reset_password(gateway: Gateway) -> None:
    """A reset link of an admin works once and ends the user's sessions; expired and replaced ones are refused."""
    admin, user = (cookie_of(gateway.conninfo, name) for name in ("admin1", "user1"))

    def link() -> str:
        answer = post(gateway, "admin/create-reset-link", {"userId": "user1"}, admin)
        assert answer.json["url"].startswith(f"http://127.0.0.1:{gateway.port}/reset-password#token=")
        return str(answer.json["url"].partition("#token=")[2])

    def reset(token: str) -> tuple[int, str | None]:
        answer = gateway.post("/api/auth/reset-password", {"newPassword": NEW, "token": token})
        return answer.status, answer.json.get("code")

    refused = (400, "INVALID_TOKEN")
    tokens = [link() for _ in range(2)]
    stored = gateway.sql("SELECT identifier, value, expires_at - created_at = interval '1 day' FROM verifications")
    assert [(value, day) for _, value, day in stored] == [("user1", True)]
    assert tokens[1] not in stored[0][0]
    assert reset(stored[0][0]) == refused, "what is stored is not a token"
    assert (reset(tokens[0]), user_of(gateway, user)["id"]) == (refused, "user1")
    with ThreadPoolExecutor() as threads:
        assert sorted(status for status, _ in threads.map(reset, [tokens[1]] * 4)) == [200, 400, 400, 400]
    assert user_of(gateway, user) is None
    expired = link()
    gateway.sql("UPDATE verifications SET expires_at = now() - interval '1 second'")
    assert reset(expired) == refused
    assert actions(gateway) == [("user.reset-link", "user1", "admin1")] * 2 + [
        ("user.reset-password", "user1", "user1"), ("user.reset-link", "user1", "admin1"),
    ]  # fmt: skip


def test_a_new_password_or_removal_invalidates_reset_links(gateway: Gateway) -> None:
    """A link that an admin issued before the password was changed is no longer valid."""
    admin, user = (cookie_of(gateway.conninfo, name) for name in ("admin1", "user1"))
    for path, body, cookie in (
        ("change-password", {"newPassword": NEW, "currentPassword": PASSWORD}, user),
        ("admin/set-user-password", {"userId": "user1", "newPassword": NEW}, admin),
        ("admin/remove-user", {"userId": "user1"}, admin),
    ):
        assert post(gateway, "admin/create-reset-link", {"userId": "user1"}, admin).status == 200
        assert post(gateway, path, body, cookie).status == 200
        assert gateway.sql("SELECT count(*) FROM verifications") == [(0,)]
