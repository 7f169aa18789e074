"""The gateway beside the real better-auth with its admin plugin, on databases with the same users and one secret."""

from __future__ import annotations

import json
import os
import re
import subprocess
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any

import psycopg
import pytest
from tests.interop.drizzle import HERE, LIMIT
from tests.support.http_gateway import Gateway, run_gateway
from tests.support.people import PASSWORD, SECRET, add_users, cookie_of
from tests.support.postgres_server import PostgresServer

from mosaic_gateway.migrations import Bundle, migrate

NEW = "another long password"
LONG = "x" * 129
EVERYWHERE = ("user1", "admin1", "nobody")
VARIABLE = re.compile(
    r"(?P<token>\b[A-Za-z0-9]{32}\b)|(?P<time>\b20(?!26-01|30)\d\d-\d\d-\d\dT[\d:.]+Z)|(?P<address>\"ipAddress\":\"[^\"]*\")"
    r"|(?P<agent>\"userAgent\":\"[^\"]*\")|(?P<signature>\.[A-Za-z0-9%]{43,90}%3D)"
)
Peer = Callable[[str], AbstractContextManager[Gateway]]


@pytest.fixture(scope="module")
def template(postgres_server: PostgresServer) -> str:
    """The name of a template database with both schemas and the users of tests/support/people.py."""
    name = postgres_server.create_database(prefix="people")
    with postgres_server.connect(name) as connection:
        for bundle in ("gateway", "storage"):
            migrate(Bundle.load(bundle), connection)
    add_users(postgres_server.conninfo(name))
    return name


@pytest.fixture
def databases(postgres_server: PostgresServer, template: str) -> list[str]:
    """The conninfos of two copies of it."""
    return [
        postgres_server.conninfo(postgres_server.create_database(template=template, prefix="people")) for _ in range(2)
    ]


@pytest.fixture
def peer(_modules: Path) -> Peer:
    """Return a context manager that runs better-auth on a database."""

    @contextmanager
    def run(conninfo: str) -> Iterator[Gateway]:
        parts = psycopg.conninfo.conninfo_to_dict(conninfo)
        settings = {"host": parts["host"], "port": int(parts["port"] or 0), "user": parts["user"]}
        words = [str(_modules), json.dumps({**settings, "database": parts["dbname"]}), SECRET.reveal()]
        process = subprocess.Popen(
            ["node", HERE / "people_server.mjs", *words],
            stdout=subprocess.PIPE, text=True, env={**os.environ, "TZ": "UTC"},
        )  # fmt: skip
        try:
            assert process.stdout is not None
            yield Gateway(conninfo, int(process.stdout.readline()))
        finally:
            process.kill()
            process.communicate()

    return run


@pytest.fixture
def run_client(_modules: Path) -> Callable[[Gateway], Any]:
    """Return a function that runs people_client.mjs against a server and returns its answers."""

    def run(server: Gateway) -> Any:
        cookies = [cookie_of(server.conninfo, user_id) for user_id in ("admin1", "user1")]
        words = [str(_modules), f"http://127.0.0.1:{server.port}", *cookies, PASSWORD]
        done = subprocess.run(
            ["node", HERE / "people_client.mjs", *words], capture_output=True, text=True, timeout=LIMIT, check=False
        )
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)

    return run


def normal(value: object) -> Any:
    """Return *value* as JSON has it, with the names of tokens, signatures and present times in their place."""
    text = json.dumps(value, ensure_ascii=False, separators=(",", ":"))
    return json.loads(VARIABLE.sub(_replacement, text))


def _replacement(match: re.Match[str]) -> str:
    name = str(match.lastgroup)
    return f'"{name}":""' if name in {"address", "agent"} else name


def both(databases: list[str], peer: Peer, ask: Callable[[Gateway], Any]) -> tuple[Any, Any]:
    """Return what *ask* gets from the gateway and from better-auth, each on a database of its own."""
    with run_gateway(databases[0]) as gateway, peer(databases[1]) as better_auth:
        return normal(ask(gateway)), normal(ask(better_auth))


def test_the_clients_of_better_auth(databases: list[str], peer: Peer, run_client: Callable[[Gateway], Any]) -> None:
    """better-auth's client and admin client get the same data and errors from both, in the same calls."""
    ours, theirs = both(databases, peer, run_client)
    assert [call for call, *_ in ours] == [call for call, *_ in theirs]
    for mine, other in zip(ours, theirs, strict=True):
        assert mine == other


BODIES: tuple[object, ...] = ({}, [], None)
PERMISSIONS: tuple[object, ...] = (
    {"permissions": {"user": ["list"]}}, {"permissions": {"user": ["x"]}}, {"permissions": {"x": ["list"]}},
    {"permissions": {}}, {"permissions": {"user": []}}, {"permission": {"user": ["list"]}}, {"role": 5},
    {"permission": {"user": ["list"]}, "permissions": {"user": ["list"]}}, {"permissions": {"user": "list"}},
    {"role": "admin", "userId": "admin1", "permissions": {"user": ["list"]}}, {"permissions": {"user": [1]}},
    {"permissions": {"user": ["impersonate-admins"]}}, {"permissions": []},
)  # fmt: skip
#: Method and path, and body: sent by a user, an admin and without a session, in this order.
REQUESTS: list[tuple[str, object]] = [
    ("GET list-sessions", None),
    ("GET admin/get-user", None),
    ("GET admin/get-user?id=user2", None),
    ("GET admin/get-user?id=none", None),
    *((f"GET admin/list-users?{query}", None) for query in (
        "sortBy=createdAt", "sortBy=createdAt&limit=2&offset=1", "sortBy=name&sortDirection=desc", "sortBy=nothing",
        "sortDirection=up", "searchField=id", "searchOperator=is", "filterOperator=like", "limit=1&limit=2", "limit=-1",
        "limit=x&sortBy=id", "sortBy=id&limit=1e1", "searchValue=ser&sortBy=id", "searchValue=SER",
        "searchValue=1&searchField=name&searchOperator=ends_with&sortBy=id", "filterField=role&filterValue=user",
        "filterField=banned&filterValue=false&sortBy=id", "filterField=banned&filterValue=true",
        "filterField=id&filterOperator=in&filterValue=user1&filterValue=user2&sortBy=id", "filterField=x&filterValue=1",
        "filterField=createdAt&filterOperator=gte&filterValue=2026-01-02T03:04:05.678Z&sortBy=id",
        "filterField=createdAt&filterOperator=gte&filterValue=never", "searchValue=a&searchValue=b",
    )),
    *((f"POST {path}", body) for path in (
        "change-password", "verify-password", "revoke-session", "change-email", "request-password-reset",
        "reset-password", "admin/set-role", "admin/create-user", "admin/update-user", "admin/list-user-sessions",
        "admin/ban-user", "admin/unban-user", "admin/remove-user", "admin/set-user-password",
        "admin/revoke-user-session", "admin/revoke-user-sessions", "admin/has-permission", "update-user",
        "unlink-account", "link-social", "sign-in/social", "update-session", "send-verification-email",
    ) for body in BODIES),
    ("POST change-password", {"newPassword": "short", "currentPassword": PASSWORD}),
    ("POST change-password", {"newPassword": LONG, "currentPassword": PASSWORD}),
    ("POST change-password", {"newPassword": NEW, "currentPassword": LONG}),
    ("POST change-password", {"newPassword": NEW, "currentPassword": "wrong"}),
    ("POST change-password", {"newPassword": NEW, "currentPassword": PASSWORD, "revokeOtherSessions": "x"}),
    ("GET list-accounts", None),
    ("POST unlink-account", {"accountId": "none"}),
    ("POST link-social", {"provider": "github"}),
    ("POST sign-in/social", {"provider": "github"}),
    ("POST update-session", {"name": "x"}),
    ("POST send-verification-email", {"email": "user1@example.com"}),
    ("POST send-verification-email", {"email": "bad"}),
    ("GET verify-email", None),
    ("GET verify-email?token=x", None),
    ("GET delete-user/callback", None),
    ("GET delete-user/callback?token=x", None),
    ("POST verify-password", {"password": "wrong"}),
    ("POST verify-password", {"password": LONG}),
    ("POST update-user", {"email": "x@example.com"}),
    ("POST update-user", {"role": "admin", "name": "x"}),
    ("POST update-user", {"banned": False}),
    ("POST update-user", {"nothing": 1}),
    ("POST update-user", {"image": None}),
    ("POST change-email", {"newEmail": "bad"}),
    ("POST change-email", {"newEmail": "USER1@example.com"}),
    ("POST change-email", {"newEmail": "user2@example.com"}),
    ("POST revoke-session", {"token": "none"}),
    ("POST revoke-other-sessions", {}),
    ("POST request-password-reset", {"email": "user1@example.com"}),
    ("POST request-password-reset", {"email": "bad"}),
    ("POST reset-password", {"newPassword": "x"}),
    ("POST reset-password", {"newPassword": "x", "token": "x"}),
    ("POST reset-password", {"newPassword": NEW, "token": ""}),
    ("POST reset-password", {"newPassword": NEW, "token": "x"}),
    ("POST reset-password?token=x", {"newPassword": NEW}),
    ("POST delete-user", {"password": "wrong"}),
    ("POST delete-user", {"token": "x"}),
    ("POST admin/set-role", {"userId": "none", "role": "user"}),
    ("POST admin/set-role", {"userId": None, "role": "user"}),
    ("POST admin/set-role", {"userId": 5, "role": [1]}),
    ("POST admin/set-role", {"userId": "user2", "role": ["user", "editors"]}),
    ("POST admin/create-user", {"email": "bad", "name": "N"}),
    ("POST admin/create-user", {"email": "n@example.com", "name": "N", "role": None}),
    ("POST admin/create-user", {"email": "n@example.com", "name": "N", "password": LONG}),
    ("POST admin/create-user", {"email": "n@example.com", "name": "N", "data": [1]}),
    ("POST admin/create-user", {"email": "n@example.com", "name": "N", "data": {"role": 5}}),
    ("POST admin/create-user", {"email": "N@example.com", "name": "N", "data": {"role": "x", "banned": True, "y": 1}}),
    ("POST admin/create-user", {"email": "n@EXAMPLE.com", "name": "N"}),
    ("POST admin/update-user", {"userId": "user2", "data": {}}),
    ("POST admin/update-user", {"userId": "user2", "data": {"password": NEW}}),
    ("POST admin/update-user", {"userId": "user2", "data": {"id": "x"}}),
    ("POST admin/update-user", {"userId": "user2", "data": {"role": 5}}),
    ("POST admin/update-user", {"userId": "user2", "data": {"email": "bad"}}),
    ("POST admin/update-user", {"userId": "user2", "data": {"email": "USER1@example.com"}}),
    ("POST admin/update-user", {"userId": "admin1", "data": {"banned": True}}),
    ("POST admin/update-user", {"userId": "none", "data": {"name": "x"}}),
    ("POST admin/update-user", {"userId": "user2", "data": {"nothing": 1}}),
    ("POST admin/update-user", {"userId": "user2", "data": {"banned": True, "banExpires": "2030-01-01T00:00:00.000Z"}}),
    ("POST admin/update-user", {"userId": "user2", "data": {"banned": False, "banExpires": None}}),
    ("POST admin/ban-user", {"userId": "admin1"}),
    ("POST admin/ban-user", {"userId": "none"}),
    ("POST admin/ban-user", {"userId": "user2", "banExpiresIn": "60"}),
    ("POST admin/ban-user", {"userId": "user2", "banReason": "", "banExpiresIn": 0}),
    ("POST admin/ban-user", {"userId": "user2", "banReason": "spam", "banExpiresIn": 1.5}),
    ("POST admin/unban-user", {"userId": "user2"}),
    ("POST admin/list-user-sessions", {"userId": "none"}),
    ("POST admin/revoke-user-session", {"sessionToken": "none"}),
    ("POST admin/revoke-user-sessions", {"userId": "none"}),
    ("POST admin/set-user-password", {"userId": "", "newPassword": ""}),
    ("POST admin/set-user-password", {"userId": "user2", "newPassword": "short"}),
    ("POST admin/set-user-password", {"userId": "none", "newPassword": NEW}),
    ("POST admin/set-user-password", {"userId": "user2", "newPassword": NEW}),
    *(("POST admin/has-permission", body) for body in PERMISSIONS),
    ("POST admin/remove-user", {"userId": "admin1"}),
    ("POST admin/remove-user", {"userId": "none"}),
    ("POST admin/remove-user", {"userId": "user2"}),
    ("POST revoke-sessions", {}),
    ("GET list-sessions", None),
    ("POST update-user", {"name": "x"}),
    ("GET admin/list-users", None),
    ("PATCH update-user", {"name": "x"}),
    ("POST update-user/", {"name": "x"}),
    ("POST two-factor/enable", {}),
    ("GET organization/list", None),
]  # fmt: skip


def test_the_same_answers(databases: list[str], peer: Peer) -> None:
    """Status, body and cookies of both are the same for every request, of a user, of an admin and without a session."""

    def ask(server: Gateway) -> list[Any]:
        cookies = {user_id: cookie_of(server.conninfo, user_id) for user_id in EVERYWHERE[:2]}
        origin = f"http://127.0.0.1:{server.port}"
        answers: list[Any] = []
        for request, body in REQUESTS:
            method, path = request.split(" ")
            for who in EVERYWHERE:
                server.sql("DELETE FROM rate_limits")
                headers = {"cookie": cookies[who], "origin": origin} if who in cookies else {}
                answer = server.request(method, f"/api/auth/{path}", body, headers=headers)
                answers.append([request, body, who, answer.status, answer.body.decode(), list(answer.cookies)])
        return answers

    ours, theirs = both(databases, peer, ask)
    different = [(mine, other[3:]) for mine, other in zip(ours, theirs, strict=True) if mine != other]
    assert different == []


def test_one_database(databases: list[str], peer: Peer) -> None:
    """Both on one database: a session, a ban and a password of one counts for the other, and a reset link as well."""
    database = databases[0]
    with run_gateway(database) as gateway, peer(database) as better_auth:

        def post(server: Gateway, path: str, body: object, user_id: str = "") -> Any:
            cookie = {"cookie": cookie_of(database, user_id)} if user_id else {}
            return server.post(f"/api/auth/{path}", body, origin=f"http://127.0.0.1:{server.port}", **cookie)

        def sign_in(server: Gateway, password: str) -> int:
            return int(post(server, "sign-in/email", {"email": "user1@example.com", "password": password}).status)

        assert post(better_auth, "admin/ban-user", {"userId": "user1"}, "admin1").status == 200
        assert sign_in(gateway, PASSWORD) == 403
        assert post(gateway, "admin/unban-user", {"userId": "user1"}, "admin2").status == 200
        assert sign_in(better_auth, PASSWORD) == 200
        link = post(gateway, "admin/create-reset-link", {"userId": "user1"}, "admin1").json["url"]
        body = {"newPassword": NEW, "token": link.partition("#token=")[2]}
        assert [post(server, "reset-password", body).status for server in (better_auth, gateway)] == [200, 400]
        assert [sign_in(server, NEW) for server in (gateway, better_auth)] == [200, 200]
