"""HTTP messages: parsing of requests, and JSON responses and error responses.

Requests: bodies (JSON or form, up to 1 MiB), field types, client address and user agent.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterable, Mapping, Sequence
from contextlib import suppress
from http import HTTPStatus
from typing import Final
from urllib.parse import parse_qsl, quote

from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response

from mosaic_gateway.errors import MosaicError
from mosaic_gateway.gateway.api_error import ApiError
from mosaic_gateway.gateway.origin_check import check_urls

__all__ = [
    "FORM",
    "JSON",
    "UNDEFINED",
    "ApiError",
    "answer_error",
    "client_address",
    "empty",
    "field_issue",
    "header_url",
    "issues_error",
    "json_response",
    "kind",
    "pending_cookies",
    "read_body",
    "require_object",
    "user_agent",
    "with_pending_cookies",
]

JSON = "application/json"
FORM = "application/x-www-form-urlencoded"
BODY_MAX = 1024 * 1024  # bytes
FORM_FIELDS_MAX = 100
USER_AGENT_MAX = 512
#: Bytes of an oversized body that are still read, so that a client that is still sending receives the
#: response instead of a connection reset.
DRAIN_MAX = 8 * BODY_MAX
DRAIN_SECONDS = 0.5
SECURITY: Mapping[str, str] = {"x-content-type-options": "nosniff", "cache-control": "no-store"}
RETRY_AFTER = "1"  # seconds
URL_CHARACTERS = ":/?#[]@!$&'()*+,;=%"  # besides letters, digits and -._~


class Undefined:
    """The type of `UNDEFINED`, JavaScript's undefined: no body, or no such field; distinct from null (None)."""


UNDEFINED: Final = Undefined()

KINDS: Mapping[type, str] = {
    str: "string", bool: "boolean", int: "number", float: "number", list: "array", dict: "object",
    type(None): "null", Undefined: "undefined",
}  # fmt: skip


async def read_body(request: Request, allowed: tuple[str, ...]) -> object:
    """Return the parsed body, or `UNDEFINED` if there is none. *allowed* are media types.

    Raises `ApiError`: 413 above 1 MiB (Content-Length or chunked), 415 for another type, 400 for invalid JSON,
    403 if it names a URL to be sent to that is not trusted (`check_urls`).
    """
    body = await _read(request, allowed)
    check_urls(request, body)
    return body


async def _read(request: Request, allowed: tuple[str, ...]) -> object:
    content_type = request.headers.get("content-type", "")
    media_type = content_type.split(";")[0].strip().lower()
    declared = request.headers.get("content-length", "")
    if declared == "0" and not media_type:
        return UNDEFINED
    body = await _collect(request, refuse=declared.isdecimal() and int(declared) > BODY_MAX)
    if not body and not media_type:
        return UNDEFINED
    if media_type not in allowed:
        allowed_types = f"Allowed types: {', '.join(sorted(allowed, reverse=True))}"
        problem = f'Content-Type "{content_type}" is not allowed' if media_type else "Content-Type is required"
        raise ApiError(415, "UNSUPPORTED_MEDIA_TYPE", f"{problem}. {allowed_types}")
    return _parse_json(body) if media_type == JSON else _parse_form(body)


def field_issue(
    body: Mapping[str, object], name: str, expected: type = str, *, optional: bool = False, root: str = "body"
) -> str | None:
    """Return zod's message if the field *name* is not of the type *expected*, else None."""
    value = body.get(name, UNDEFINED)
    if isinstance(value, expected) or (optional and value is UNDEFINED):
        return None
    return f"[{root}.{name}] Invalid input: expected {KINDS[expected]}, received {kind(value)}"


def require_object(body: object, expected: str = "object") -> dict[str, object]:
    """Return *body* if it is a JSON object, which zod also calls ``record``. Raises `ApiError` (400)."""
    if not isinstance(body, dict):
        raise issues_error([f"[body] Invalid input: expected {expected}, received {kind(body)}"])
    return body


def issues_error(issues: list[str]) -> ApiError:
    """Return an `ApiError` (400 VALIDATION_ERROR) that lists every issue."""
    return ApiError(400, "VALIDATION_ERROR", "; ".join(issues))


def client_address(request: Request) -> str:
    """Return the peer's address, ``''`` when unknown (a unix socket)."""
    return request.client.host if request.client else ""


def user_agent(request: Request) -> str:
    """Return the User-Agent header, cut at 512 characters, without NUL, which PostgreSQL refuses; ``''`` if none."""
    return request.headers.get("user-agent", "").replace("\x00", "")[:USER_AGENT_MAX]


def pending_cookies(request: Request) -> list[str]:
    """Return the Set-Cookie values that the response to *request* will have besides its own; append to the list."""
    cookies: list[str] = request.scope.setdefault("state", {}).setdefault("pending_cookies", [])
    return cookies


async def _collect(request: Request, *, refuse: bool) -> bytes:
    """Return the whole body. Raises `ApiError` (413) if it is too large; *refuse*: Content-Length says so already."""
    chunks, size, stream = [], 0, request.stream()
    if not refuse:
        async for chunk in stream:
            size += len(chunk)
            if size > BODY_MAX:
                break
            chunks.append(chunk)
        else:
            return b"".join(chunks)
    if "expect" not in request.headers:
        await _drain(stream)
    # Unread parts of the body may follow, so the connection cannot be reused.
    raise ApiError(413, "PAYLOAD_TOO_LARGE", "The request body is larger than 1 MiB", {"connection": "close"})


async def _drain(stream: AsyncIterable[bytes]) -> None:
    drained = 0
    with suppress(TimeoutError, ClientDisconnect):
        async with asyncio.timeout(DRAIN_SECONDS):
            async for chunk in stream:
                drained += len(chunk)
                if drained > DRAIN_MAX:
                    break


def _parse_json(body: bytes) -> object:
    try:
        # Like a browser's Response.json(): a byte order mark is skipped, bad UTF-8 replaced.
        text = body.decode("utf-8", "replace").removeprefix("\ufeff")
        return json.loads(text, parse_constant=_refuse_constant)
    except (ValueError, RecursionError) as error:
        raise ApiError(400, "BAD_REQUEST", "Invalid JSON in request body") from error


def _parse_form(body: bytes) -> dict[str, object]:
    try:
        return dict(parse_qsl(body.decode("utf-8", "replace"), keep_blank_values=True, max_num_fields=FORM_FIELDS_MAX))
    except ValueError as error:
        raise ApiError(400, "BAD_REQUEST", "Too many fields in request body") from error


def _refuse_constant(word: str) -> object:
    raise ValueError(word)  # NaN and Infinity: accepted by Python, not valid JSON


def kind(value: object) -> str:
    """Return JavaScript's name of the type of *value*, as zod's messages have it."""
    return KINDS[type(value)]


def json_response(
    value: object, *, status: int = 200, headers: Mapping[str, str] | None = None, cookies: Sequence[str] = ()
) -> Response:
    """Return *value* as uncacheable JSON (``no-store``); *cookies* are Set-Cookie values."""
    body = json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode("utf-8", "replace")
    response = Response(body, status, {**SECURITY, **(headers or {})}, "application/json")
    response.raw_headers.extend(_cookie_headers(cookies))
    return response


def with_pending_cookies(request: Request, response: Response) -> Response:
    """Return *response* with the `pending_cookies` of *request* before its own, which override them."""
    response.raw_headers[:0] = _cookie_headers(pending_cookies(request))
    return response


def _cookie_headers(cookies: Sequence[str]) -> list[tuple[bytes, bytes]]:
    return [(b"set-cookie", cookie.encode("latin-1")) for cookie in cookies]


def header_url(url: str) -> str:
    """Return *url* for a Location header, which is ASCII; a lone surrogate becomes a question mark."""
    return quote(url, safe=URL_CHARACTERS, errors="replace")


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
    if not code and not message:
        return empty(status)
    body = {"message": message, "code": code} if code else {"message": message}
    return json_response(body, status=status, headers=headers)
