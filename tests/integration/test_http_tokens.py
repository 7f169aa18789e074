"""API tokens: created, listed and revoked over HTTP, accepted where their scopes and their user's role allow it."""

from __future__ import annotations

import re
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from tests.support.http_gateway import Answer, Gateway, RunGateway
from tests.support.people import add_users, cookie_of

from mosaic_gateway.auth import accounts
from mosaic_gateway.forward_rules import ForwardRule

USERS = "/api/auth/admin/list-users"


@pytest.fixture
def gateway(http_gateway: Gateway) -> Gateway:
    """A gateway with two admins and two users."""
    add_users(http_gateway.conninfo)
    return http_gateway


def post(gateway: Gateway, path: str, body: object, cookie: str) -> Answer:
    """POST *body* as a page of the gateway would."""
    return gateway.post(path, body, cookie=cookie, origin=f"http://127.0.0.1:{gateway.port}")


def create(gateway: Gateway, user_id: str, *scopes: str, **more: Any) -> Any:
    """Create a token and return the answer's body."""
    body = {"name": "job", "scopes": scopes, **more}
    answer = post(gateway, "/api/tokens", body, cookie_of(gateway.conninfo, user_id))
    assert answer.status == 201
    return answer.json


def list_users(gateway: Gateway, token: str, **headers: str) -> tuple[int, str | None]:
    """Return status and code of list-users with *token*."""
    answer = gateway.get(USERS, authorization=f"Bearer {token}", **headers)
    return answer.status, answer.json.get("code") if answer.body else None


def test_a_token_is_shown_once(gateway: Gateway) -> None:
    """The text of a token is in the answer that creates it and nowhere else; it is stored as a hash."""
    made = create(gateway, "admin1", "read", "forward", expiresInDays=1)
    text = made.pop("token")
    assert re.fullmatch("mgw_[A-Za-z0-9]{43}", text)
    cookie = cookie_of(gateway.conninfo, "admin1")
    assert gateway.get("/api/tokens", cookie=cookie).json == {"tokens": [made]}
    assert gateway.sql("SELECT expires_at - created_at BETWEEN '23:59' AND '24:01' FROM api_tokens") == [(True,)]
    stored = gateway.sql("SELECT t::text FROM api_tokens t UNION ALL SELECT a::text FROM audit_log a")
    assert not [row for row in stored if text in row[0]]
    assert gateway.get("/api/tokens", cookie=cookie_of(gateway.conninfo, "user1")).json == {"tokens": []}


def test_scopes(gateway: Gateway) -> None:
    """``read`` reads, ``admin`` changes as well, ``forward`` does neither; the user's role limits all of them."""
    body = {"userId": "user2", "role": "user"}

    def set_role(token: str) -> int:
        return gateway.post("/api/auth/admin/set-role", body, authorization=f"Bearer {token}").status

    read, admin, forward = (create(gateway, "admin1", scope)["token"] for scope in ("read", "admin", "forward"))
    user = create(gateway, "user1", "admin")["token"]
    assert [list_users(gateway, token) for token in (read, admin, forward, user)] == [
        (200, None), (200, None), (403, "INSUFFICIENT_SCOPE"), (403, "YOU_ARE_NOT_ALLOWED_TO_LIST_USERS"),
    ]  # fmt: skip
    assert [set_role(token) for token in (read, admin, forward, user)] == [403, 200, 403, 403]
    actor = gateway.sql("SELECT actor_id, ip_address FROM audit_log WHERE action = 'user.set-role'")
    assert actor == [("admin1", "127.0.0.1")]
    himself = {"userId": "admin1"}
    banned = gateway.post("/api/auth/admin/ban-user", himself, authorization=f"Bearer {admin}")
    assert banned.json["code"] == "YOU_CANNOT_BAN_YOURSELF"


def test_a_token_is_no_session(gateway: Gateway) -> None:
    """A token neither signs in nor manages the account or tokens, even beside a session's cookie."""
    token, cookie = (
        create(gateway, "admin1", "read", "admin", "forward")["token"],
        cookie_of(gateway.conninfo, "admin1"),
    )
    headers = {"authorization": f"Bearer {token}", "cookie": cookie, "origin": f"http://127.0.0.1:{gateway.port}"}
    for method, path, body in (
        ("GET", "/api/tokens", None), ("POST", "/api/tokens", {"name": "x", "scopes": ["read"]}),
        ("POST", "/api/tokens/revoke", {"id": "x"}), ("GET", "/api/auth/list-sessions", None),
        ("POST", "/api/auth/update-user", {"name": "x"}), ("POST", "/api/auth/delete-user", {}),
    ):  # fmt: skip
        assert gateway.request(method, path, body, headers=headers).status == 401
    assert gateway.get("/api/auth/get-session", authorization=f"Bearer {token}").json is None
    assert list_users(gateway, "mgw_" + "x" * 43, cookie=cookie) == (401, "INVALID_API_TOKEN")


def test_uses_are_recorded_sparingly(gateway: Gateway) -> None:
    """The last use is stored once a minute, and the audit log has one row for all uses of an hour."""
    token = create(gateway, "admin1", "read")["token"]
    used = "SELECT last_used_at FROM api_tokens"
    with ThreadPoolExecutor(4) as threads:
        assert set(threads.map(lambda _: list_users(gateway, token), range(8))) == {(200, None)}
    first = gateway.sql(used)
    assert first != [(None,)]
    list_users(gateway, token)
    assert gateway.sql(used) == first
    gateway.sql("UPDATE api_tokens SET last_used_at = last_used_at - interval '61 seconds'")
    list_users(gateway, token)
    assert gateway.sql(used)[0][0] >= first[0][0]
    rows = gateway.sql("SELECT actor_id, ip_address FROM audit_log WHERE action = 'token.use'")
    assert rows == [("admin1", "127.0.0.1")]
    gateway.sql("UPDATE api_tokens SET last_used_at = last_used_at - interval '61 minutes'")
    list_users(gateway, token)
    assert gateway.sql("SELECT count(*) FROM audit_log WHERE action = 'token.use'") == [(2,)]


@pytest.mark.parametrize("reason", ["revoked", "expired", "banned"])
def test_refused_uses_are_recorded_in_bounded_number(gateway: Gateway, reason: str) -> None:
    """A token that is revoked or expired, or whose user is banned, is refused; ten minutes of that are one row."""
    made = create(gateway, "admin1", "read")
    if reason == "revoked":
        revoked = post(gateway, "/api/tokens/revoke", {"id": made["id"]}, cookie_of(gateway.conninfo, "admin1"))
        assert revoked.json["revokedAt"]
    elif reason == "expired":
        gateway.sql("UPDATE api_tokens SET expires_at = now() - interval '1 second'")
    else:
        gateway.sql("UPDATE users SET banned = true WHERE id = 'admin1'")
    assert {list_users(gateway, made["token"]) for _ in range(5)} == {(401, "INVALID_API_TOKEN")}
    refusals = "SELECT details->>'reason', target FROM audit_log WHERE action = 'token.refused'"
    assert gateway.sql(refusals) == [(reason, made["id"])]
    gateway.sql("UPDATE audit_log SET created_at = created_at - interval '11 minutes'")
    list_users(gateway, made["token"])
    assert len(gateway.sql(refusals)) == 2
    assert gateway.sql("SELECT last_used_at FROM api_tokens") == [(None,)]


def test_only_own_tokens(gateway: Gateway) -> None:
    """Another user's token cannot be revoked; unknown scopes, names and ages are refused."""
    made, cookie = create(gateway, "admin1", "read"), cookie_of(gateway.conninfo, "user1")
    foreign = post(gateway, "/api/tokens/revoke", {"id": made["id"]}, cookie)
    assert (foreign.status, foreign.json["code"]) == (404, "API_TOKEN_NOT_FOUND")
    assert list_users(gateway, made["token"])[0] == 200
    for more, expected in (
        ({"scopes": ["all"]}, "INVALID_SCOPE"), ({"scopes": []}, "INVALID_SCOPE"),
        ({"scopes": "read"}, "VALIDATION_ERROR"),
        ({"name": " "}, "VALIDATION_ERROR"), ({"expiresInDays": 0}, "VALIDATION_ERROR"),
        ({"expiresInDays": 1e300}, "VALIDATION_ERROR"), ({"expiresInDays": "1"}, "VALIDATION_ERROR"),
    ):  # fmt: skip
        refused = post(gateway, "/api/tokens", {"name": "x", "scopes": ["read"], **more}, cookie)
        assert (refused.status, refused.json["code"]) == (400, expected)


def test_a_token_at_a_service_behind_the_gateway(http_database: str, http_run: RunGateway) -> None:
    """Forward authentication takes a token with no scope but ``forward`` where a rule allows it, and nowhere else."""
    rules = (ForwardRule(host="api.example.com", allow="token"), ForwardRule(host="wiki.example.com"))
    add_users(http_database)
    settings = {"base_url": "https://auth.example.com", "trusted_proxies": ("127.0.0.1",), "forward_rules": rules}
    with http_run(http_database, **settings) as gateway:

        def ask(host: str, authorization: str) -> Answer:
            original = {"proto": "https", "host": host, "uri": "/", "method": "GET", "for": "198.51.100.7"}
            headers = {f"x-forwarded-{name}": value for name, value in original.items()}
            return gateway.request(
                "GET", "/api/auth/forward", headers={**headers, "host": host, "authorization": authorization}
            )

        made = {
            scope: accounts.create_token(http_database, email="user1@example.com", name="x", scopes=[scope], days=1)
            for scope in ("forward", "read")
        }
        wide = accounts.create_token(
            http_database, email="user1@example.com", name="x", scopes=["read", "forward"], days=1
        )
        refusal = ask("api.example.com", f"Bearer {wide.token.reveal()}")
        assert (refusal.status, refusal.json["code"]) == (403, "TOKEN_SCOPE_TOO_WIDE")
        bearers = {scope: f"Bearer {issued.token.reveal()}" for scope, issued in made.items()}
        permitted = ask("api.example.com", bearers["forward"])
        assert (permitted.status, permitted.headers["remote-email"]) == (200, "user1@example.com")
        refused = [ask("api.example.com", bearers["read"]), ask("wiki.example.com", bearers["forward"])]
        assert [answer.status for answer in refused] == [403, 401]
        assert gateway.sql(
            "SELECT ip_address FROM audit_log WHERE action = 'token.use' AND target = %s", made["forward"].record.id
        ) == [("198.51.100.7",)]
        accounts.revoke_token(http_database, token_id=made["forward"].record.id)
        assert ask("api.example.com", bearers["forward"]).status == 401
