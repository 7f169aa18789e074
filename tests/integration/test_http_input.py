from __future__ import annotations

import logging
import socket
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from tests.integration.conftest import Gateway

SETUP = "/api/bootstrap/setup"
SIGN_IN = "/api/auth/sign-in/email"
JSON = {"content-type": "application/json"}
MIB = 1024 * 1024


@pytest.mark.parametrize("path", [SETUP, SIGN_IN])
def test_bodies_that_are_refused(http_shared: Gateway, path: str) -> None:
    """Malformed JSON, another type, and too much of it each have their status, however the body is sent."""
    for raw in (b"{", b"", b'{"a":NaN}', b"[" * 100_000):
        answer = http_shared.request("POST", path, raw=raw, headers=JSON)
        assert (answer.status, answer.json["code"]) == (400, "BAD_REQUEST")
    answer = http_shared.request("POST", path, raw=b"{}", headers={"content-type": "text/plain"})
    assert (answer.status, answer.json["code"]) == (415, "UNSUPPORTED_MEDIA_TYPE")
    assert http_shared.request("POST", path, raw=b"{}").status == 415
    chunked = http_shared.request("POST", path, raw=iter([b"x" * 1000] * 1100), headers=JSON)
    assert (chunked.status, chunked.json["code"]) == (413, "PAYLOAD_TOO_LARGE")
    announced = http_shared.request("POST", path, raw=b"x" * (MIB + 1), headers=JSON)
    assert (announced.status, announced.json["code"]) == (413, "PAYLOAD_TOO_LARGE")
    expecting = http_shared.request(
        "POST", path, headers={**JSON, "content-length": str(MIB + 1), "expect": "100-continue"}
    )
    assert expecting.status == 413


def test_a_form_is_no_set_up(http_shared: Gateway) -> None:
    """Our own routes take JSON only."""
    headers = {"content-type": "application/x-www-form-urlencoded"}
    assert http_shared.request("POST", SETUP, raw=b"name=a", headers=headers).status == 415


def test_unknown_paths_and_methods(http_shared: Gateway) -> None:
    """Unknown paths get a JSON 404, wrong methods 405 with Allow."""
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


def test_a_client_that_hangs_up_harms_nobody(http_shared: Gateway, caplog: pytest.LogCaptureFixture) -> None:
    """A body that ends early is no fault of ours, and the next request is answered."""
    with socket.create_connection(("127.0.0.1", http_shared.port)) as client:
        client.sendall(b"POST /api/bootstrap/setup HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n")
        client.sendall(b"Content-Length: 100\r\n\r\n{")
    assert http_shared.get("/healthz").status == 200
    assert not [record for record in caplog.records if record.levelno >= logging.ERROR]


def test_health_and_readiness(http_gateway: Gateway) -> None:
    """Both name version and instance; readiness notices a missing schema."""
    assert http_gateway.get("/healthz").json == {"status": "ok", "version": "1.2.3", "instanceId": "an-instance"}
    ready = http_gateway.get("/readyz")
    assert (ready.status, ready.json["status"], ready.json["schema"]) == (200, "ready", True)
    http_gateway.sql("DROP TABLE storage_documents")
    ready = http_gateway.get("/readyz")
    assert (ready.status, ready.json["database"], ready.json["schema"]) == (503, True, False)


def test_a_fault_of_ours_is_logged_and_shows_nothing(http_gateway: Gateway, caplog: pytest.LogCaptureFixture) -> None:
    """A table that went missing gives 500 without internals; the log has the traceback."""
    http_gateway.sql("ALTER TABLE users RENAME TO people")
    answer = http_gateway.get("/api/bootstrap/status")
    assert (answer.status, answer.json["code"]) == (500, "INTERNAL")
    assert b"users" not in answer.body
    (record,) = [record for record in caplog.records if record.levelno >= logging.ERROR]
    assert record.exc_info
    assert record.getMessage() == "GET /api/bootstrap/status failed"


def test_pages_and_assets(http_shared: Gateway) -> None:
    """Pages come with a strict policy, and unchanged ones are not sent again."""
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
