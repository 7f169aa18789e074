"""The smoke test against a fake gateway: wrong responses are refused and reported."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import Any

import pytest

from mosaic_gateway.errors import ExitCode, SmokeTestError
from mosaic_gateway_installer.install.smoke_test import smoke_test

FRESH = (200, {"needsSetup": True})
REFUSAL = (400, {"message": "[body.name] x; [body.email] x; [body.password] x", "code": "VALIDATION_ERROR"})
Response = tuple[int, Any]


@contextmanager
def fake_gateway(status: Response, setup: Response) -> Iterator[str]:
    """Run a server with these responses; yield its URL."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self._respond(*(status if self.path == "/api/bootstrap/status" else (404, None)))

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["content-length"]))
            self._respond(*(setup if (self.path, body) == ("/api/bootstrap/setup", b"{}") else (404, None)))

        def _respond(self, code: int, body: Any) -> None:
            content = body if isinstance(body, bytes) else json.dumps(body).encode()
            self.send_response(code)
            self.send_header("content-length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, *_arguments: object) -> None:
            """Log nothing."""

    with HTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_address[1]}"
        finally:
            server.shutdown()
            thread.join()


@pytest.mark.parametrize(
    ("answered", "needs_setup"),
    [(True, True), (True, None), (False, None), (False, False)],
    ids=lambda value: f"{value}",
)
def test_correct_responses_pass(answered: bool, needs_setup: bool | None) -> None:
    """A new gateway needs an admin, an adopted one may have one; the result lists the requests."""
    with fake_gateway((200, {"needsSetup": answered}), REFUSAL) as url:
        result = smoke_test(url, needs_setup=needs_setup)
    assert result == {
        "url": url,
        "needsSetup": answered,
        "requests": ["GET /api/bootstrap/status 200", "POST /api/bootstrap/setup 400"],
    }


@pytest.mark.parametrize(
    ("status", "needs_setup"),
    [
        ((500, {"message": "relation users does not exist", "code": "INTERNAL"}), None),
        ((503, {"needsSetup": True}), True),
        ((404, b"<html>another program</html>"), None),
        ((200, b"ready"), None),
        ((200, None), None),
        ((200, [True]), None),
        ((200, {"needsSetup": "true"}), None),
        ((200, {"needsSetup": 1}), True),
        ((200, {"needsSetup": True, "more": 1}), True),
        ((200, {"needsSetup": False}), True),
    ],
)
def test_another_bootstrap_status_is_refused(status: Response, needs_setup: bool | None) -> None:
    """Only status 200 with the expected object is accepted."""
    with fake_gateway(status, REFUSAL) as url, pytest.raises(SmokeTestError) as caught:
        smoke_test(url, needs_setup=needs_setup)
    _assert_reported(caught.value, f"GET {url}/api/bootstrap/status", status[0])


@pytest.mark.parametrize(
    "setup",
    [
        (201, {"user": {}}),
        (200, REFUSAL[1]),
        (403, {"message": "The set-up link is invalid", "code": "SETUP_TOKEN_INVALID"}),
        (400, {"message": "Invalid JSON in request body", "code": "BAD_REQUEST"}),
        (400, {"message": "[body.name] x; [body.email] x", "code": "VALIDATION_ERROR"}),
        (400, b"Bad Request"),
        (500, None),
    ],
)
def test_another_response_to_an_empty_setup_is_refused(setup: Response) -> None:
    """Only status 400 with a message that names each field is accepted."""
    with fake_gateway(FRESH, setup) as url, pytest.raises(SmokeTestError) as caught:
        smoke_test(url, needs_setup=True)
    _assert_reported(caught.value, f"POST {url}/api/bootstrap/setup", setup[0])


def test_an_unreachable_gateway_fails_the_test() -> None:
    """A connection error is a `SmokeTestError`."""
    with fake_gateway(FRESH, REFUSAL) as url:
        pass
    with pytest.raises(SmokeTestError, match="does not answer"):
        smoke_test(url, needs_setup=None)


def _assert_reported(error: SmokeTestError, request: str, status: int) -> None:
    assert (error.exit_code, error.code) == (ExitCode.SMOKE_TEST, "SMOKE_TEST_FAILED")
    assert error.message.startswith(f"{request}: expected ")
    assert f"got {status} " in error.message
    assert error.details["request"] == request
