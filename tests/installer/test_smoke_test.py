"""The smoke test against gateways that are not as they must be: each is refused, and what it said is told."""

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
Said = tuple[int, Any]


@contextmanager
def gateway_that_says(status: Said, setup: Said) -> Iterator[str]:
    """A server that gives these answers; yields its address."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self._say(*(status if self.path == "/api/bootstrap/status" else (404, None)))

        def do_POST(self) -> None:
            asked = self.rfile.read(int(self.headers["content-length"]))
            self._say(*(setup if (self.path, asked) == ("/api/bootstrap/setup", b"{}") else (404, None)))

        def _say(self, code: int, body: Any) -> None:
            content = body if isinstance(body, bytes) else json.dumps(body).encode()
            self.send_response(code)
            self.send_header("content-length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, *_arguments: object) -> None:
            """Say nothing."""

    with HTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_address[1]}"
        finally:
            server.shutdown()
            thread.join()


@pytest.mark.parametrize(
    ("said", "needs_setup"), [(True, True), (True, None), (False, None), (False, False)], ids=lambda value: f"{value}"
)
def test_a_gateway_as_it_must_be_passes(said: bool, needs_setup: bool | None) -> None:
    """Fresh it wants an admin, adopted it may have one; the requests are told with their statuses."""
    with gateway_that_says((200, {"needsSetup": said}), REFUSAL) as url:
        found = smoke_test(url, needs_setup=needs_setup)
    assert found == {
        "url": url,
        "needsSetup": said,
        "requests": ["GET /api/bootstrap/status 200", "POST /api/bootstrap/setup 400"],
    }


@pytest.mark.parametrize(
    ("status", "needs_setup"),
    [
        ((500, {"message": "relation users does not exist", "code": "INTERNAL"}), None),
        ((503, {"needsSetup": True}), True),
        ((404, b"<html>somebody else's</html>"), None),
        ((200, b"ready"), None),
        ((200, None), None),
        ((200, [True]), None),
        ((200, {"needsSetup": "true"}), None),
        ((200, {"needsSetup": 1}), True),
        ((200, {"needsSetup": True, "more": 1}), True),
        ((200, {"needsSetup": False}), True),
    ],
)
def test_another_answer_about_the_first_admin_is_refused(status: Said, needs_setup: bool | None) -> None:
    """Nothing but 200 and the one expected object will do."""
    with gateway_that_says(status, REFUSAL) as url, pytest.raises(SmokeTestError) as caught:
        smoke_test(url, needs_setup=needs_setup)
    _assert_told(caught.value, f"GET {url}/api/bootstrap/status", status[0])


@pytest.mark.parametrize(
    "setup",
    [
        (201, {"user": {}}),
        (200, REFUSAL[1]),
        (403, {"message": "The set-up link is not valid", "code": "SETUP_TOKEN_INVALID"}),
        (400, {"message": "Invalid JSON in request body", "code": "BAD_REQUEST"}),
        (400, {"message": "[body.name] x; [body.email] x", "code": "VALIDATION_ERROR"}),
        (400, b"Bad Request"),
        (500, None),
    ],
)
def test_another_answer_to_an_empty_set_up_is_refused(setup: Said) -> None:
    """It is 400 and names each field, or the gateway is not the one that was installed."""
    with gateway_that_says(FRESH, setup) as url, pytest.raises(SmokeTestError) as caught:
        smoke_test(url, needs_setup=True)
    _assert_told(caught.value, f"POST {url}/api/bootstrap/setup", setup[0])


def test_nobody_there_is_refused() -> None:
    """A gateway that does not answer has failed its test, too."""
    with gateway_that_says(FRESH, REFUSAL) as url:
        pass
    with pytest.raises(SmokeTestError, match="does not answer"):
        smoke_test(url, needs_setup=None)


def _assert_told(error: SmokeTestError, request: str, status: int) -> None:
    assert (error.exit_code, error.code) == (ExitCode.SMOKE_TEST, "SMOKE_TEST_FAILED")
    assert error.message.startswith(f"{request}: expected ")
    assert f"got {status} " in error.message
    assert error.details["request"] == request
