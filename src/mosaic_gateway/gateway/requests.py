"""What requests bring: bodies within a limit, in JSON or as a form, and fields of the right kind.

Messages are worded as better-auth words them (better-call's body reader, zod 4's issues), because
its clients show or match them.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterable, Mapping
from contextlib import suppress
from typing import Final
from urllib.parse import parse_qsl

from starlette.requests import ClientDisconnect, Request

from mosaic_gateway.gateway.responses import ApiError

__all__ = [
    "FORM",
    "JSON",
    "UNDEFINED",
    "client_address",
    "field_issue",
    "issues_error",
    "read_body",
    "require_object",
    "user_agent",
]

JSON = "application/json"
FORM = "application/x-www-form-urlencoded"
BODY_MAX = 1024 * 1024  # bytes
FORM_FIELDS_MAX = 100
#: How much of a body that is too large is still read, so that a client that is sending gets the answer
#: instead of a reset connection.
DRAIN_MAX = 8 * BODY_MAX
DRAIN_SECONDS = 0.5


class Undefined:
    """JavaScript's undefined: no body, or no such field. Differs from null."""


UNDEFINED: Final = Undefined()

KINDS: Mapping[type, str] = {
    str: "string", bool: "boolean", int: "number", float: "number", list: "array", dict: "object",
    type(None): "null", Undefined: "undefined",
}  # fmt: skip


async def read_body(request: Request, allowed: tuple[str, ...]) -> object:
    """Return the parsed body, `UNDEFINED` where there is none. *allowed* are media types.

    Raises `ApiError`: 413 above 1 MiB however it is sent, 415 for another type, 400 for JSON that is none.
    """
    content_type = request.headers.get("content-type", "")
    media_type = content_type.split(";")[0].strip().lower()
    declared = request.headers.get("content-length", "")
    if declared == "0" and not media_type:
        return UNDEFINED
    body = await _collect(request, refuse=declared.isdecimal() and int(declared) > BODY_MAX)
    if not body and not media_type:
        return UNDEFINED
    if media_type not in allowed:
        wanted = f"Allowed types: {', '.join(sorted(allowed, reverse=True))}"
        what = f'Content-Type "{content_type}" is not allowed' if media_type else "Content-Type is required"
        raise ApiError(415, "UNSUPPORTED_MEDIA_TYPE", f"{what}. {wanted}")
    return _parse_json(body) if media_type == JSON else _parse_form(body)


def field_issue(body: Mapping[str, object], name: str, expected: type = str, *, optional: bool = False) -> str | None:
    """Return zod's complaint about the field *name*, or None where it is what was *expected*."""
    value = body.get(name, UNDEFINED)
    if isinstance(value, expected) or (optional and value is UNDEFINED):
        return None
    return f"[body.{name}] Invalid input: expected {KINDS[expected]}, received {_kind(value)}"


def require_object(body: object) -> dict[str, object]:
    """Return *body* if it is a JSON object. Raises `ApiError` (400 VALIDATION_ERROR)."""
    if not isinstance(body, dict):
        raise issues_error([f"[body] Invalid input: expected object, received {_kind(body)}"])
    return body


def issues_error(issues: list[str]) -> ApiError:
    """Return the 400 that names every issue."""
    return ApiError(400, "VALIDATION_ERROR", "; ".join(issues))


def client_address(request: Request) -> str:
    """Return the peer's address, ``''`` when unknown (a unix socket)."""
    return request.client.host if request.client else ""


def user_agent(request: Request) -> str:
    """Return the User-Agent header without what PostgreSQL refuses, ``''`` when there is none."""
    return request.headers.get("user-agent", "").replace("\x00", "")


async def _collect(request: Request, *, refuse: bool) -> bytes:
    """Return the whole body. Raises `ApiError` (413) where it is too large, or is known to be (*refuse*)."""
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
    # There may be more of the body to come, so the connection cannot be used again.
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
        return json.loads(text, parse_constant=_refuse)
    except (ValueError, RecursionError) as error:
        raise ApiError(400, "BAD_REQUEST", "Invalid JSON in request body") from error


def _parse_form(body: bytes) -> dict[str, object]:
    try:
        return dict(parse_qsl(body.decode("utf-8", "replace"), keep_blank_values=True, max_num_fields=FORM_FIELDS_MAX))
    except ValueError as error:
        raise ApiError(400, "BAD_REQUEST", "Too many fields in request body") from error


def _refuse(word: str) -> object:
    raise ValueError(word)  # NaN and Infinity, which Python reads and JSON does not have


def _kind(value: object) -> str:
    return KINDS[type(value)]
