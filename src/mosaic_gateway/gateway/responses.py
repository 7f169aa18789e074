"""JSON responses and error responses."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from http import HTTPStatus

from starlette.responses import Response

from mosaic_gateway.errors import MosaicError

__all__ = ["ApiError", "answer_error", "empty", "json_response"]

SECURITY: Mapping[str, str] = {"x-content-type-options": "nosniff", "cache-control": "no-store"}
RETRY_AFTER = "1"  # seconds


class ApiError(Exception):
    """An error with an HTTP *status*; the response body is ``{"message", "code"}``, and *headers* are added."""

    def __init__(self, status: int, code: str, message: str, headers: Mapping[str, str] | None = None) -> None:
        super().__init__(message)
        self.status = status
        self.code = code
        self.message = message
        self.headers = headers


def json_response(
    value: object, *, status: int = 200, headers: Mapping[str, str] | None = None, cookies: Sequence[str] = ()
) -> Response:
    """Return *value* as uncacheable JSON (``no-store``); *cookies* are Set-Cookie values."""
    body = json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode("utf-8", "replace")
    response = Response(body, status, {**SECURITY, **(headers or {})}, "application/json")
    response.raw_headers.extend((b"set-cookie", cookie.encode("latin-1")) for cookie in cookies)
    return response


def empty(status: int) -> Response:
    """Return a response without a body, as better-auth's router sends for an unknown path."""
    return Response(None, status, SECURITY)


def answer_error(error: ApiError | MosaicError) -> Response | None:
    """Return the response for an `ApiError` or an error with an HTTP status, None for an internal error."""
    if isinstance(error, ApiError):
        return _error(error.status, error.code, error.message, error.headers)
    status = error.http_status
    if status is None:
        return None
    headers = {"retry-after": RETRY_AFTER} if status == HTTPStatus.SERVICE_UNAVAILABLE else None
    return _error(status, error.code, error.message, headers)


def _error(status: int, code: str, message: str, headers: Mapping[str, str] | None) -> Response:
    return json_response({"message": message, "code": code}, status=status, headers=headers)
