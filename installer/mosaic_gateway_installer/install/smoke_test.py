"""The smoke test: unauthenticated HTTP requests to the running gateway."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from http import HTTPStatus
from typing import Any

from mosaic_gateway.config import EVERY_ADDRESS, Config
from mosaic_gateway.errors import SmokeTestError
from mosaic_gateway.hint import command
from mosaic_gateway.installation import Home
from mosaic_gateway.process import tail_of

__all__ = ["SETUP_FIELDS", "log_in_error", "passed_line", "smoke_test"]

LOG_LINES = 20

SETUP_FIELDS = ("name", "email", "password")
STATUS = "/api/bootstrap/status"
SETUP = "/api/bootstrap/setup"


def passed_line(config: Config) -> str:
    """Return the sentence that says where the gateway of *config* listens, and what the smoke test requested."""
    if config.url == config.local_url and config.host not in EVERY_ADDRESS:
        return f"The gateway runs at {config.url} and passed its smoke test."
    return (
        f"The gateway listens on {config.listens_on} and passed its smoke test at {config.local_url}. "
        f"Its address for users is {config.url}."
    )


def smoke_test(url: str, *, needs_setup: bool | None) -> dict[str, Any]:
    """Send the requests to the gateway at *url* and return a summary of its responses.

    *needs_setup* is the expected value of ``needsSetup``: True for a new installation, None if both values are
    correct. Raises `SmokeTestError`, which names request, expected and actual response.
    """
    status, body = _ask(url, STATUS)
    answered = body.get("needsSetup") if isinstance(body, dict) and set(body) == {"needsSetup"} else None
    expected = [True, False] if needs_setup is None else [needs_setup]
    if status != HTTPStatus.OK or not isinstance(answered, bool) or answered not in expected:
        wanted = " or ".join(f'{{"needsSetup": {str(value).lower()}}}' for value in expected)
        raise _failed("GET", url + STATUS, f"200 {wanted}", status, body)
    code, refusal = _ask(url, SETUP, {})
    message = str(refusal.get("message", "")) if isinstance(refusal, dict) else ""
    if code != HTTPStatus.BAD_REQUEST or not all(f"[body.{field}]" in message for field in SETUP_FIELDS):
        raise _failed("POST", url + SETUP, f"400 naming {', '.join(SETUP_FIELDS)}", code, refusal)
    return {"url": url, "needsSetup": answered, "requests": [f"GET {STATUS} 200", f"POST {SETUP} 400"]}


@contextmanager
def log_in_error(home: Home) -> Iterator[None]:
    """Add the end of the gateway's log to a SmokeTestError of the block, because a rollback may delete the log."""
    try:
        yield
    except SmokeTestError as error:
        error.add_note("\n".join(["The end of the log:", *tail_of(home.gateway_log, LOG_LINES)]))
        raise


def _ask(url: str, path: str, body: Any = None) -> tuple[int, Any]:
    from mosaic_gateway.gateway import NoAnswerError, ask

    try:
        return ask(url, path, body=body)
    except NoAnswerError as error:
        raise SmokeTestError(error.message, hint=error.hint) from error


def _failed(method: str, url: str, expected: str, status: int, body: Any) -> SmokeTestError:
    return SmokeTestError(
        f"{method} {url}: expected {expected}, got {status} {body}",
        hint="Read the log: " + command("logs"),
        details={"request": f"{method} {url}", "expected": expected, "status": status, "body": body},
    )
