"""What admins do with users; that the answers are better-auth's is tested in tests/interop."""

from __future__ import annotations

import itertools
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from threading import Barrier
from typing import Any

import pytest
from tests.support.http_gateway import Answer, Gateway
from tests.support.people import PASSWORD, add_users, cookie_of

from mosaic_gateway.auth import accounts
from mosaic_gateway.auth.better_auth_format import iso
from mosaic_gateway.auth.errors import LastAdminError

LAST = (409, "LAST_ADMIN")


@pytest.fixture
def gateway(http_gateway: Gateway) -> Gateway:
    """A gateway with two admins and two users."""
    add_users(http_gateway.conninfo)
    return http_gateway


def admin(gateway: Gateway, path: str, body: object, cookie: str) -> Answer:
    """POST *body* to an endpoint of the admin plugin as a page of the gateway would."""
    return gateway.post(f"/api/auth/admin/{path}", body, cookie=cookie, origin=f"http://127.0.0.1:{gateway.port}")


def code(answer: Answer) -> tuple[int, str | None]:
    """Return status and code of an answer."""
    return answer.status, answer.json.get("code") if answer.body else None


ENDPOINTS: dict[str, dict[str, Any]] = {
    "create-user": {"email": "new@example.com", "name": "New", "password": PASSWORD},
    "update-user": {"userId": "user2", "data": {"name": "x"}},
    "set-role": {"userId": "user2", "role": "admin"},
    "set-user-password": {"userId": "user2", "newPassword": PASSWORD},
    "ban-user": {"userId": "user2"},
    "unban-user": {"userId": "user2"},
    "remove-user": {"userId": "user2"},
    "list-user-sessions": {"userId": "user2"},
    "revoke-user-session": {"sessionToken": "x"},
    "revoke-user-sessions": {"userId": "user2"},
    "create-reset-link": {"userId": "user2"},
}


def test_only_admins(gateway: Gateway) -> None:
    """Every endpoint answers 401 without a session, 403 to a user who is no admin, and nothing is changed."""
    user = cookie_of(gateway.conninfo, "user1")
    state = "SELECT string_agg(u::text, ';' ORDER BY id), (SELECT count(*) FROM audit_log) FROM users u"
    before = gateway.sql(state)
    for path, body in ENDPOINTS.items():
        assert code(gateway.post(f"/api/auth/admin/{path}", body)) == (401, None)
        refused = admin(gateway, path, body, user)
        assert refused.status == 403
        assert refused.json["code"].startswith("YOU_ARE_NOT_ALLOWED_TO_")
    for path in ("list-users", "get-user?id=user2"):
        assert gateway.get(f"/api/auth/admin/{path}").status == 401
        assert gateway.get(f"/api/auth/admin/{path}", cookie=user).status == 403
    assert gateway.sql(state) == before


def test_each_action_is_recorded(gateway: Gateway) -> None:
    """The audit log says who did what to whom, from where, and the roles before and after."""
    boss = cookie_of(gateway.conninfo, "admin1")
    for path, given in ENDPOINTS.items():
        cookie_of(gateway.conninfo, "user1")
        body = {key: "user1" if value == "user2" else value for key, value in given.items()}
        if path != "remove-user":
            assert admin(gateway, path, body, boss).status == 200
    assert admin(gateway, "remove-user", {"userId": "user1"}, boss).status == 200
    rows = gateway.sql("SELECT action, actor_id, target, ip_address FROM audit_log ORDER BY id")
    assert {row[1:] for row in rows[1:]} == {("admin1", "user1", "127.0.0.1")}
    assert [row[0].removeprefix("user.") for row in rows] == [
        "create", "update", "set-role", "set-password", "ban", "unban", "revoke-sessions", "reset-link", "remove",
    ]  # fmt: skip
    details = gateway.sql("SELECT details FROM audit_log WHERE action = 'user.set-role'")[0][0]
    assert (details["formerRole"], details["role"]) == ("user", "admin")
    assert admin(gateway, "ban-user", {"userId": "user2", "banReason": "spam", "banExpiresIn": 60}, boss).status == 200
    [(details,)] = gateway.sql("SELECT details FROM audit_log WHERE target = 'user2'")
    [(until,)] = gateway.sql("SELECT ban_expires FROM users WHERE id = 'user2'")
    assert (details["reason"], details["until"]) == ("spam", iso(until))


def test_search(gateway: Gateway) -> None:
    """Users are searched, filtered, sorted and paged; wildcards stand for themselves."""
    boss = cookie_of(gateway.conninfo, "admin1")
    gateway.sql("UPDATE users SET banned = true WHERE id = 'user2'")

    def ids(query: str) -> tuple[str, int]:
        body = gateway.get(f"/api/auth/admin/list-users?{query}", cookie=boss).json
        return " ".join(user["id"] for user in body["users"]), body["total"]

    everyone = "admin1 admin2 user1 user2"
    for query, expected in (
        ("", (everyone, 4)), ("limit=2", ("admin1 admin2", 4)), ("limit=2&offset=1", ("admin2 user1", 4)),
        ("sortBy=name&sortDirection=desc", ("user2 user1 admin2 admin1", 4)), ("sortBy=nothing", ("", 0)),
        ("searchValue=ser", ("user1 user2", 2)), ("searchValue=%25", ("", 0)), ("searchValue=_ser1", ("", 0)),
        ("searchValue=U&searchField=name&searchOperator=starts_with", ("user1 user2", 2)),
        ("filterField=role&filterValue=admin&filterOperator=contains", ("admin1 admin2", 2)),
        ("filterField=banned&filterValue=true", ("user2", 1)), ("filterField=nothing&filterValue=1", ("", 0)),
        ("filterField=id&filterOperator=in&filterValue=user1&filterValue=user2", ("user1 user2", 2)),
        ("filterField=createdAt&filterOperator=lt&filterValue=2026-01-03", ("admin1 admin2", 2)),
        ("filterField=createdAt&filterOperator=lt&filterValue=never", ("", 0)), ("limit=-1", ("", 0)),
        ("limit=1e999", ("", 0)), ("offset=1.5", ("", 0)), ("searchValue=%00", ("", 0)), ("limit=x", (everyone, 4)),
        ("filterField=createdAt&filterOperator=lt&filterValue=0001-01-01T00:00:00%2B14:00", ("", 0)),
        ("filterField=name&filterValue=%ED%A0%80", ("", 0)), ("searchValue=ser&filterField=id&filterValue=user2",
        ("user2", 1)),
    ):  # fmt: skip
        assert ids(query) == expected, query


def test_users_are_created_and_changed(gateway: Gateway) -> None:
    """A user is created with or without password, and every field that an admin may set is set."""
    boss = cookie_of(gateway.conninfo, "admin1")
    for password in (None, PASSWORD):
        body = {"email": f"NEW{bool(password)}@example.com", "name": "New", "role": ["user", "editors"]}
        created = admin(gateway, "create-user", {**body, **({"password": password} if password else {})}, boss)
        assert created.json["user"]["role"] == "user,editors"
        number = gateway.sql("SELECT count(*) FROM accounts WHERE user_id = %s", created.json["user"]["id"])
        assert number == [(int(bool(password)),)]
    again = admin(gateway, "create-user", {"email": "newtrue@EXAMPLE.com", "name": "New"}, boss)
    assert code(again) == (400, "USER_ALREADY_EXISTS_USE_ANOTHER_EMAIL")
    data = {
        "name": "Neu", "email": "Neu@example.com", "emailVerified": True, "image": None, "role": "editors",
        "banned": True, "banReason": "spam", "banExpires": "2030-01-01T01:00:00+01:00", "unknown": 1,
    }  # fmt: skip
    cookie_of(gateway.conninfo, "user1")
    changed = admin(gateway, "update-user", {"userId": "user1", "data": data}, boss).json
    expected = {**data, "email": "neu@example.com", "banExpires": "2030-01-01T00:00:00.000Z"}
    assert {key: changed[key] for key in expected if key != "unknown"} == {
        key: value for key, value in expected.items() if key != "unknown"
    }
    assert gateway.sql("SELECT count(*) FROM sessions WHERE user_id = 'user1'") == [(0,)]
    taken = admin(gateway, "update-user", {"userId": "user1", "data": {"email": "user2@example.com"}}, boss)
    assert code(taken) == (400, "USER_ALREADY_EXISTS_USE_ANOTHER_EMAIL")


@pytest.mark.parametrize("name", ["a b", "admin,", "ä", "x" * 65, "a\x00", "../x"])
def test_names_of_roles(gateway: Gateway, name: str) -> None:
    """A role that no header or rule could name is refused."""
    boss = cookie_of(gateway.conninfo, "admin1")
    bodies = {
        "set-role": {"userId": "user1", "role": name},
        "update-user": {"userId": "user1", "data": {"role": [name]}},
        "create-user": {"email": "new@example.com", "name": "New", "role": name},
    }
    for path, body in bodies.items():
        expected = (400, "YOU_ARE_NOT_ALLOWED_TO_SET_NON_EXISTENT_VALUE")
        assert code(admin(gateway, path, body, boss)) == expected


def test_a_new_password_ends_sessions(gateway: Gateway) -> None:
    """A password that an admin sets ends the user's sessions, and of the own ones all but this."""
    boss, other, user = (cookie_of(gateway.conninfo, name) for name in ("admin1", "admin1", "user1"))
    for user_id in ("user1", "admin1"):
        body = {"userId": user_id, "newPassword": PASSWORD}
        assert admin(gateway, "set-user-password", body, boss).json == {"status": True}
    signed_in = [gateway.get("/api/auth/get-session", cookie=cookie).json for cookie in (boss, other, user)]
    assert [bool(session) for session in signed_in] == [True, False, False]


def test_the_last_admin_stays(gateway: Gateway) -> None:
    """The last admin who is not banned cannot be removed, banned or demoted, in any of the ways."""
    boss = cookie_of(gateway.conninfo, "admin1")
    assert admin(gateway, "ban-user", {"userId": "admin2"}, boss).status == 200
    for path, body in (
        ("set-role", {"userId": "admin1", "role": "user"}),
        ("set-role", {"userId": "admin1", "role": []}),
        ("update-user", {"userId": "admin1", "data": {"role": "administrator"}}),
    ):
        assert code(admin(gateway, path, body, boss)) == LAST
    assert code(admin(gateway, "ban-user", {"userId": "admin1"}, boss)) == (400, "YOU_CANNOT_BAN_YOURSELF")
    assert code(admin(gateway, "remove-user", {"userId": "admin1"}, boss)) == (400, "YOU_CANNOT_REMOVE_YOURSELF")
    assert admin(gateway, "set-role", {"userId": "admin1", "role": "editors,admin"}, boss).status == 200
    assert admin(gateway, "set-role", {"userId": "admin2", "role": "user"}, boss).status == 200
    gateway.sql("UPDATE users SET role = 'admin', ban_expires = now() - interval '1 minute' WHERE id = 'admin2'")
    assert admin(gateway, "set-role", {"userId": "admin1", "role": "user"}, boss).status == 200


@pytest.mark.parametrize("third", [False, True])
@pytest.mark.parametrize(
    ("path", "more"),
    [("set-role", {"role": "user"}), ("ban-user", {}), ("remove-user", {})],
    ids=str,
)
def test_two_admins_against_each_other(gateway: Gateway, path: str, more: dict[str, str], *, third: bool) -> None:
    """Of two admins who demote, ban or remove each other at once, exactly one succeeds, even if a third one remains."""
    if third:
        gateway.sql("UPDATE users SET role = 'admin' WHERE id = 'user1'")
    for _ in range(3 if path == "set-role" else 1):
        cookies = {name: cookie_of(gateway.conninfo, name) for name in ("admin1", "admin2")}
        start = Barrier(2)

        def act(actor: str, target: str, cookies: dict[str, str] = cookies, start: Barrier = start) -> int:
            start.wait(10)
            return admin(gateway, path, {"userId": target, **more}, cookies[actor]).status

        with ThreadPoolExecutor() as threads:
            statuses = sorted(threads.map(act, ("admin1", "admin2"), ("admin2", "admin1")))
        assert statuses[0] == 200
        assert statuses[1] in {401, 403}
        left = gateway.sql("SELECT id FROM users WHERE role LIKE '%%admin%%' AND NOT banned AND id LIKE 'admin_'")
        assert len(left) == 1
        gateway.sql("UPDATE users SET role = 'admin' WHERE id LIKE 'admin_'")


def test_command_line_and_http_at_once(gateway: Gateway) -> None:
    """An admin who demotes another over HTTP and a command line that demotes the first: one admin remains."""
    boss = cookie_of(gateway.conninfo, "admin1")

    def command_line() -> bool:
        try:
            accounts.set_role(gateway.conninfo, email="admin1@example.com", role="user")
        except LastAdminError:
            return False
        return True

    body = {"userId": "admin2", "role": "user"}
    with ThreadPoolExecutor() as threads:
        futures = [
            threads.submit(lambda: admin(gateway, "set-role", body, boss).status == 200), threads.submit(command_line),
        ]  # fmt: skip
        assert sorted(future.result() for future in futures) == [False, True]


def test_many_at_once(gateway: Gateway) -> None:
    """Of eight calls that each demote one of eight admins, seven succeed."""
    names = [f"boss{number}" for number in range(8)]
    gateway.sql("DELETE FROM users WHERE id LIKE 'admin_'")
    for name in names:
        gateway.sql(
            "INSERT INTO users (id, name, email, role, banned) VALUES (%s, 'x', %s, 'admin', false)",
            name,
            f"{name}@x.yz",
        )

    def demote(name: str) -> bool:
        try:
            accounts.set_role(gateway.conninfo, email=f"{name}@x.yz", role="user")
        except LastAdminError:
            return False
        return True

    with ThreadPoolExecutor(8) as threads:
        assert sorted(threads.map(demote, names)) == [False, *[True] * 7]


def test_what_has_no_plugin(http_shared: Gateway) -> None:
    """Endpoints of plugins that the gateway does not have answer with an empty 404."""
    for method, path in itertools.product(
        ("GET", "POST"),
        ("organization/list", "api-key/create", "two-factor/enable", "admin/impersonate-user", "admin/nothing",
         "admin", "list-users", "admin/list-users/"),
    ):  # fmt: skip
        call = partial(http_shared.get) if method == "GET" else partial(http_shared.post, body={})
        answer = call(f"/api/auth/{path}")
        assert (answer.status, answer.body) == (404, b"")
