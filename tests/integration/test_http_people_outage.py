"""The endpoints of accounts, admins and API tokens while the database does not answer."""

from __future__ import annotations

import os
import signal

from tests.support.http_gateway import RunGateway
from tests.support.people import PASSWORD, add_users, cookie_of
from tests.support.postgres_server import RunServer

from mosaic_gateway.migrations import Bundle, migrate

GET = ("/api/auth/list-sessions", "/api/auth/admin/list-users", "/api/auth/admin/get-user?id=user1", "/api/tokens")
USER = {"userId": "user1"}
POST = {
    "/api/auth/change-password": {"newPassword": PASSWORD, "currentPassword": PASSWORD},
    "/api/auth/verify-password": {"password": PASSWORD},
    "/api/auth/reset-password": {"newPassword": PASSWORD, "token": "x"},
    "/api/auth/revoke-session": {"token": "x"},
    "/api/auth/revoke-sessions": {},
    "/api/auth/revoke-other-sessions": {},
    "/api/auth/update-user": {"name": "x"},
    "/api/auth/change-email": {"newEmail": "x@example.com"},
    "/api/auth/delete-user": {},
    "/api/auth/admin/create-user": {"email": "x@example.com", "name": "x"},
    "/api/auth/admin/update-user": {**USER, "data": {"name": "x"}},
    "/api/auth/admin/set-role": {**USER, "role": "user"},
    "/api/auth/admin/ban-user": USER,
    "/api/auth/admin/unban-user": USER,
    "/api/auth/admin/remove-user": USER,
    "/api/auth/admin/set-user-password": {**USER, "newPassword": PASSWORD},
    "/api/auth/admin/create-reset-link": USER,
    "/api/auth/admin/list-user-sessions": USER,
    "/api/auth/admin/revoke-user-session": {"sessionToken": "x"},
    "/api/auth/admin/revoke-user-sessions": USER,
    "/api/auth/admin/has-permission": {"permissions": {"user": ["list"]}},
    "/api/tokens": {"name": "x", "scopes": ["read"]},
    "/api/auth/unlink-account": {"accountId": "x"},
    "/api/tokens/revoke": {"id": "x"},
}


def test_every_endpoint_without_a_database(run_server: RunServer, http_run: RunGateway) -> None:
    """Every endpoint answers 503 with Retry-After, with a session's cookie and with an API token."""
    with run_server("people-outage") as server:
        with server.connect() as connection:
            for bundle in ("gateway", "storage"):
                migrate(Bundle.load(bundle), connection)
        add_users(server.conninfo())
        with http_run(server.conninfo()) as gateway:
            cookie, origin = cookie_of(gateway.conninfo, "admin1"), f"http://127.0.0.1:{gateway.port}"
            assert gateway.get(GET[1], cookie=cookie).status == 200
            os.kill(server.process.pid, signal.SIGKILL)
            server.process.wait(10)
            answers = {path: gateway.get(path, cookie=cookie) for path in GET}
            answers |= {path: gateway.post(path, body, cookie=cookie, origin=origin) for path, body in POST.items()}
            answers["token"] = gateway.get(GET[1], authorization="Bearer mgw_" + "x" * 43)
            found = {path: (answer.status, answer.headers.get("retry-after")) for path, answer in answers.items()}
            assert found == dict.fromkeys(found, (503, "1"))
            assert {answer.json["code"] for answer in answers.values()} == {"DATABASE_UNAVAILABLE"}
