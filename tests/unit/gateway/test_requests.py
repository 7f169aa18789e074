from __future__ import annotations

import asyncio
from collections.abc import Iterable

import pytest
from starlette.requests import Request
from starlette.types import Message

from mosaic_gateway.gateway.messages import (
    FORM,
    JSON,
    UNDEFINED,
    ApiError,
    client_address,
    field_issue,
    read_body,
    require_object,
    user_agent,
)

MIB = 1024 * 1024


def make_request(chunks: Iterable[bytes] = (), **headers: str) -> Request:
    """Return a request whose body arrives in *chunks*."""
    messages: list[Message] = [{"type": "http.request", "body": chunk, "more_body": True} for chunk in chunks]
    if messages and headers.pop("ending", "") == "with the last chunk":
        messages[-1]["more_body"] = False
    else:
        messages.append({"type": "http.request", "body": b"", "more_body": False})

    async def receive() -> Message:
        return messages.pop(0)

    raw = [(key.replace("_", "-").encode(), value.encode("latin-1")) for key, value in headers.items()]
    scope = {"type": "http", "method": "POST", "path": "/", "query_string": b"", "headers": raw, "client": None}
    return Request(scope, receive)


def parse(body: bytes, content_type: str = JSON, allowed: tuple[str, ...] = (JSON, FORM)) -> object:
    """Return the result of `read_body` for *body*."""
    return asyncio.run(read_body(make_request([body], content_type=content_type), allowed))


def refusal(
    body: bytes, content_type: str = JSON, allowed: tuple[str, ...] = (JSON, FORM)
) -> tuple[int, str | None, str]:
    """Return status, code and message with which *body* is refused."""
    with pytest.raises(ApiError) as caught:
        parse(body, content_type, allowed)
    return caught.value.status, caught.value.code, caught.value.message


def test_json_is_decoded_like_in_a_browser() -> None:
    """Parameters and case of the media type, a byte order mark and invalid UTF-8 are accepted."""
    assert parse(b'{"a":1}', "Application/JSON; charset=utf-8") == {"a": 1}
    assert parse(b'\xef\xbb\xbf{"a":"\xff"}') == {"a": "\ufffd"}
    assert parse(b"null") is None


@pytest.mark.parametrize("body", [b"", b"{", b'{"a":NaN}', b"Infinity", b"[" * 200_000, b"1" * 5000, b"{'a':1}"])
def test_invalid_json_is_refused(body: bytes) -> None:
    """Malformed or too deeply nested JSON, NaN and huge numbers are a bad request."""
    assert refusal(body) == (400, "BAD_REQUEST", "Invalid JSON in request body")


def test_forms() -> None:
    """A form becomes an object of strings; too many fields are refused."""
    assert parse("e=a%40b.co&p=x+y&u=ä&n=".encode(), FORM) == {"e": "a@b.co", "p": "x y", "u": "ä", "n": ""}
    assert refusal(b"&".join(b"a=1" for _ in range(101)), FORM)[:2] == (400, "BAD_REQUEST")


def test_other_media_types_are_refused_with_better_auths_message() -> None:
    """The message contains the media type and the allowed ones."""
    assert refusal(b"x", "text/plain") == (
        415,
        "UNSUPPORTED_MEDIA_TYPE",
        'Content-Type "text/plain" is not allowed. Allowed types: application/x-www-form-urlencoded, application/json',
    )
    assert refusal(b"x", "", (JSON,))[2] == "Content-Type is required. Allowed types: application/json"
    assert refusal(b"a=1", FORM, (JSON,))[0] == 415
    assert refusal(b"{}", "application/jsonx")[0] == 415


def test_no_body_is_undefined() -> None:
    """A request without body and media type gives `UNDEFINED`."""
    assert asyncio.run(read_body(make_request(), (JSON,))) is UNDEFINED
    assert asyncio.run(read_body(make_request(content_length="0"), (JSON,))) is UNDEFINED


def test_body_limit_with_and_without_content_length() -> None:
    """One byte above 1 MiB is refused, with Content-Length or chunked; exactly 1 MiB is accepted."""
    fits = b'"' + b"x" * (MIB - 2) + b'"'
    assert parse(fits) == "x" * (MIB - 2)
    assert refusal(fits + b" ")[:2] == (413, "PAYLOAD_TOO_LARGE")
    with_length = make_request([], content_type=JSON, content_length=str(MIB + 1))
    at_the_end = make_request([fits, b" "], content_type=JSON, ending="with the last chunk")
    endless = make_request((b"x" * MIB for _ in range(20)), content_type=JSON)
    for request in (with_length, at_the_end, endless):
        with pytest.raises(ApiError, match="larger than 1 MiB"):
            asyncio.run(read_body(request, (JSON,)))


@pytest.mark.parametrize(
    ("value", "kind"),
    [(5, "number"), (1.5, "number"), (None, "null"), ([], "array"), ({}, "object"), (True, "boolean"), ("", "string")],
)
def test_type_names_are_zods(value: object, kind: str) -> None:
    """Each JSON type has zod's name in messages."""
    expected = f"[body.x] Invalid input: expected string, received {kind}"
    assert field_issue({"x": value}, "x") == (None if kind == "string" else expected)
    if kind != "object":
        with pytest.raises(ApiError, match=rf"\[body\] Invalid input: expected object, received {kind}"):
            require_object(value)


def test_missing_and_optional_fields() -> None:
    """A missing field differs from null; an optional field may be missing, but not null."""
    assert field_issue({}, "x") == "[body.x] Invalid input: expected string, received undefined"
    assert field_issue({}, "x", bool, optional=True) is None
    assert field_issue({"x": None}, "x", bool, optional=True) == (
        "[body.x] Invalid input: expected boolean, received null"
    )


def test_client_address_and_user_agent() -> None:
    """Unknown address and user agent are empty strings; NUL is removed."""
    assert client_address(make_request()) == ""
    assert user_agent(make_request()) == ""
    assert user_agent(make_request(user_agent="a\x00é")) == "aé"
    assert user_agent(make_request(user_agent="a\x00" + "é" * 600)) == "a" + "é" * 511
