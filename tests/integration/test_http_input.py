from __future__ import annotations

import logging
import socket

import pytest
from starlette.requests import Request
from tests.support.http_gateway import Gateway

from mosaic_gateway.gateway.routes.health import is_local

SETUP = "/api/bootstrap/setup"
SIGN_IN = "/api/auth/sign-in/email"
JSON = {"content-type": "application/json"}
MIB = 1024 * 1024


@pytest.mark.parametrize("path", [SETUP, SIGN_IN])
def test_refused_bodies(http_shared: Gateway, path: str) -> None:
    """Malformed JSON, another media type and an oversized body each have their status, with any transfer."""
    for raw in (b"{", b"", b'{"a":NaN}', b"[" * 100_000):
        answer = http_shared.request("POST", path, raw=raw, headers=JSON)
        assert (answer.status, answer.json["code"]) == (400, "BAD_REQUEST")
    answer = http_shared.request("POST", path, raw=b"{}", headers={"content-type": "text/plain"})
    assert (answer.status, answer.json["code"]) == (415, "UNSUPPORTED_MEDIA_TYPE")
    assert http_shared.request("POST", path, raw=b"{}").status == 415
    chunked = http_shared.request("POST", path, raw=iter([b"x" * 1000] * 1100), headers=JSON)
    assert (chunked.status, chunked.json["code"]) == (413, "PAYLOAD_TOO_LARGE")
    with_length = http_shared.request("POST", path, raw=b"x" * (MIB + 1), headers=JSON)
    assert (with_length.status, with_length.json["code"]) == (413, "PAYLOAD_TOO_LARGE")
    expecting = http_shared.request(
        "POST", path, headers={**JSON, "content-length": str(MIB + 1), "expect": "100-continue"}
    )
    assert expecting.status == 413


def test_set_up_refuses_a_form(http_shared: Gateway) -> None:
    """Routes outside of ``/api/auth`` accept JSON only."""
    headers = {"content-type": "application/x-www-form-urlencoded"}
    assert http_shared.request("POST", SETUP, raw=b"name=a", headers=headers).status == 415


def test_unknown_paths_and_methods(http_shared: Gateway) -> None:
    """Unknown paths give 404 with JSON, wrong methods 405 with Allow."""
    for path in ("/nope", "/api/bootstrap/status/", "/api", "/assets/../app.py", "/assets/", "/%00", "/\xe4"):
        answer = http_shared.request("GET", path.encode("latin-1").decode("latin-1").replace("\xe4", "%E4"))
        assert (answer.status, answer.json["code"]) == (404, "NOT_FOUND")
    for method, path, allow in (
        ("DELETE", SETUP, "POST"),
        ("POST", "/healthz", "GET, HEAD"),
        ("PUT", "/", "GET, HEAD"),
    ):
        answer = http_shared.request(method, path)
        assert (answer.status, answer.json["code"]) == (405, "METHOD_NOT_ALLOWED")
        assert ", ".join(sorted(answer.headers["allow"].split(", "))) == allow


def test_client_disconnects(http_shared: Gateway, caplog: pytest.LogCaptureFixture) -> None:
    """A disconnect within the body is not logged as an error, and the next request is answered."""
    with socket.create_connection(("127.0.0.1", http_shared.port)) as client:
        client.sendall(b"POST /api/bootstrap/setup HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n")
        client.sendall(b"Content-Length: 100\r\n\r\n{")
    assert http_shared.get("/healthz").status == 200
    assert not [record for record in caplog.records if record.levelno >= logging.ERROR]


def test_health_and_readiness(http_gateway: Gateway) -> None:
    """Both return version and instance to this machine; /readyz detects a missing table."""
    assert http_gateway.get("/healthz").json == {"status": "ok", "version": "1.2.3", "instanceId": "an-instance"}
    ready = http_gateway.get("/readyz")
    assert (ready.status, ready.json["status"], ready.json["schema"]) == (200, "ready", True)
    http_gateway.sql("DROP TABLE storage_documents")
    ready = http_gateway.get("/readyz")
    assert (ready.status, ready.json["database"], ready.json["schema"]) == (503, True, False)


@pytest.mark.parametrize("header", ["x-forwarded-for", "forwarded", "x-real-ip", "via"])
def test_health_behind_a_proxy(http_shared: Gateway, header: str) -> None:
    """A request that a proxy forwarded does not show version and instance, even from a loopback address."""
    forwarded = {header: "127.0.0.1"}
    assert http_shared.get("/healthz", **forwarded).json == {"status": "ok"}
    assert http_shared.get("/readyz", **forwarded).json == {"status": "ready", "database": True, "schema": True}


def test_health_for_admins(http_gateway: Gateway) -> None:
    """A signed-in admin sees version and instance from anywhere; other users and invalid sessions do not."""
    person = {"name": "Ada", "email": "ada@example.com", "password": "correct horse battery"}
    created = http_gateway.post("/api/bootstrap/setup", person, x_setup_token=http_gateway.token())
    remote = {"x-forwarded-for": "203.0.113.9", "cookie": created.cookie}
    identity = {"version": "1.2.3", "instanceId": "an-instance"}
    for path in ("/healthz", "/readyz"):
        assert identity.items() <= http_gateway.get(path, **remote).json.items()
        assert "version" not in http_gateway.get(path, **{**remote, "cookie": created.cookie.split("; ")[0][:-9]}).json
    http_gateway.sql("UPDATE users SET role = 'user'")
    assert http_gateway.get("/healthz", **remote).json == {"status": "ok"}


@pytest.mark.parametrize(
    ("client", "server", "local"),
    [
        ("127.0.0.1", "127.0.0.1", True),
        ("127.8.9.1", "127.0.0.1", True),
        ("::1", "::1", True),
        ("::ffff:127.0.0.1", "::ffff:127.0.0.1", True),
        ("192.0.2.4", "192.0.2.4", True),  # this machine, at the address of the network
        ("192.0.2.4", "::ffff:192.0.2.4", True),
        ("192.0.2.5", "192.0.2.4", False),
        ("2001:db8::1", "2001:db8::2", False),
        ("unknown", "unknown", False),
        (None, None, False),
    ],
)
def test_requests_from_this_machine(client: str | None, server: str | None, *, local: bool) -> None:
    """The peer has a loopback address, or the gateway's own."""
    addresses = {"client": client and (client, 5), "server": server and (server, 6)}
    scope: dict[str, object] = {"type": "http", "headers": [], "state": {"forwarded": False}, **addresses}
    assert is_local(Request(scope)) is local


def test_internal_errors(http_gateway: Gateway, caplog: pytest.LogCaptureFixture) -> None:
    """A missing table gives 500 without details; the log contains the traceback."""
    http_gateway.sql("ALTER TABLE users RENAME TO people")
    answer = http_gateway.get("/api/bootstrap/status")
    assert (answer.status, answer.json["code"]) == (500, "INTERNAL")
    assert b"users" not in answer.body
    (record,) = [record for record in caplog.records if record.levelno >= logging.ERROR]
    assert record.exc_info
    assert record.getMessage() == "GET /api/bootstrap/status failed"


def test_pages_and_assets(http_shared: Gateway) -> None:
    """Pages have a strict content security policy; a matching ETag gives 304."""
    for path, kind in (
        ("/", "text/html"), ("/setup", "text/html"), ("/assets/style.css", "text/css"),
        ("/assets/setup.js", "text/javascript"), ("/assets/icon.svg", "image/svg+xml"),
    ):  # fmt: skip
        page = http_shared.get(path)
        assert (page.status, page.headers["content-type"]) == (200, f"{kind}; charset=utf-8")
        assert "default-src 'none'; script-src 'self'" in page.headers["content-security-policy"]
        assert "unsafe" not in page.headers["content-security-policy"]
        assert page.headers["x-content-type-options"] == "nosniff"
        assert page.headers["x-frame-options"] == "DENY"
        assert page.headers["referrer-policy"] == "no-referrer"
        unchanged = http_shared.request("GET", path, headers={"if-none-match": page.headers["etag"]})
        assert (unchanged.status, unchanged.body) == (304, b"")
