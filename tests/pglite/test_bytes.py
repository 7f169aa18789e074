"""Connection start-up, and malformed or incomplete protocol messages."""

from __future__ import annotations

import random
import struct

import pytest
from tests.pglite.process import Connection, Sidecar
from tests.pglite.wire import (
    CANCEL_REQUEST,
    GSSENC_REQUEST,
    PROTOCOL,
    SSL_REQUEST,
    client,
    fields,
    message,
    packet,
    query,
    startup,
)

INVALID_LENGTHS = [0, 3, 2**30, 2**31 - 1, 2**32 - 1]


def test_encryption_is_declined(server: Sidecar) -> None:
    """SSLRequest and GSSENCRequest are answered with N, repeatedly; then the connection starts."""
    with client(server.directory, started=False) as raw:
        for code in (GSSENC_REQUEST, SSL_REQUEST, SSL_REQUEST):
            raw.send(packet(code))
            assert raw.socket.recv(10) == b"N"
        raw.send(startup())
        assert raw.until("Z")[-1] == ("Z", b"I")


def test_libpq_requests_encryption_first(server: Sidecar) -> None:
    """psycopg connects with sslmode=prefer."""
    server.connect(sslmode="prefer", gssencmode="disable").close()


def test_startup_response(server: Sidecar) -> None:
    """The answer to a start-up packet contains the parameters that drivers need, and a unique key."""
    keys = set()
    for _ in range(2):
        with client(server.directory, started=False) as raw:
            raw.send(startup(application_name="greeted"))
            answers = raw.until("Z")
            summary = dict(body.decode().split("\0")[:2] for kind, body in answers if kind == "S")
            assert summary["server_version"].startswith("18.")
            assert (summary["client_encoding"], summary["application_name"]) == ("UTF8", "greeted")
            keys |= {body for kind, body in answers if kind == "K"}
    assert len(keys) == 2


def test_newer_minor_versions_are_negotiated(server: Sidecar) -> None:
    """A client of protocol 3.2 gets NegotiateProtocolVersion with 3.0 and its unknown options."""
    with client(server.directory, started=False) as raw:
        raw.send(startup(PROTOCOL + 2, **{"_pq_.new": "1"}))
        kind, body = raw.receive() or ("", b"")
        assert (kind, body) == ("v", struct.pack("!ii", PROTOCOL, 1) + b"_pq_.new\0")
        assert raw.until("Z")[-1] == ("Z", b"I")
    with client(server.directory, started=False) as raw:
        raw.send(startup(2 << 16))
        assert fields(raw.rest()[0][1])["C"] == "0A000"


@pytest.mark.parametrize(
    "garbage", [b"GET / HTTP/1.1\r\n\r\n", b"\0" * 64, b"\xff" * 64, struct.pack("!ii", 7, PROTOCOL)]
)
def test_invalid_startup_packet(server: Sidecar, connection: Connection, garbage: bytes) -> None:
    """An invalid start-up packet closes its connection and has no other effect."""
    with client(server.directory, started=False) as raw:
        raw.send(garbage)
        assert raw.rest() == []
    assert connection.execute("SELECT 1").fetchone() == (1,)


@pytest.mark.parametrize("length", INVALID_LENGTHS)
def test_invalid_lengths(server: Sidecar, connection: Connection, length: int) -> None:
    """An invalid length is FATAL 08P01, and no memory is allocated."""
    before = server.memory
    with client(server.directory) as raw:
        raw.send(b"Q" + struct.pack("!I", length) + b"SELECT 1\0")
        error = fields(raw.rest()[-1][1])
    assert (error["S"], error["C"]) == ("FATAL", "08P01")
    assert server.memory - before < 50_000_000
    assert connection.execute("SELECT 1").fetchone() == (1,)


def test_message_above_the_limit(server: Sidecar) -> None:
    """A length that PostgreSQL accepts but this heap cannot hold is refused before the data arrives."""
    with client(server.directory) as raw:
        raw.send(b"Q" + struct.pack("!I", 2**29) + b"SELECT 1\0")
        assert fields(raw.rest()[-1][1])["C"] == "54000"


def test_unknown_message_type(server: Sidecar, connection: Connection) -> None:
    """An unknown message type is FATAL 08P01."""
    with client(server.directory) as raw:
        raw.send(b"?" + struct.pack("!I", 4))
        assert fields(raw.rest()[-1][1])["C"] == "08P01"
    assert connection.execute("SELECT 1").fetchone() == (1,)


@pytest.mark.parametrize(
    "wrong",
    [
        message(b"Q", b"no end"),
        message(b"Q", b"SELECT 1\0more\0"),
        message(b"P", b"name\0"),
        message(b"B"),
        message(b"B", b"\0\0\0\x07"),
        message(b"D"),
        message(b"D", b"Xy\0"),
        message(b"C", b"S"),
        message(b"E", b"\0"),
        message(b"F", b"\0"),
        message(b"H", b"surplus"),
    ],
)
def test_malformed_messages(server: Sidecar, connection: Connection, wrong: bytes) -> None:
    """A malformed message is an error of its own connection; the database keeps running."""
    with client(server.directory) as raw:
        raw.send(wrong, message(b"S"))
        raw.send(query("SELECT 'alive'"))
        seen = raw.until("Z")
        assert any(kind == "E" for kind, _ in seen)
    assert connection.execute("SELECT 1").fetchone() == (1,)


def test_random_bytes(server: Sidecar, connection: Connection) -> None:
    """Random messages of known types and short lengths do not affect other connections."""
    noise = random.Random(18)
    for _ in range(60):
        with client(server.directory) as raw:
            for _ in range(20):
                kind = bytes([noise.choice(b"QPBEDCSHFdcf")])
                raw.send(message(kind, noise.randbytes(noise.randrange(40))))
            raw.send(message(b"X"))
    assert connection.execute("SELECT 1").fetchone() == (1,)


def test_byte_by_byte(server: Sidecar) -> None:
    """Messages may arrive in pieces of any size."""
    with client(server.directory, started=False) as raw:
        for byte in packet(SSL_REQUEST):
            raw.send(bytes([byte]))
        assert raw.socket.recv(10) == b"N"
        for byte in startup() + query("SELECT 'piecemeal'"):
            raw.send(bytes([byte]))
        raw.until("Z")
        assert [kind for kind, _ in raw.until("Z")] == ["T", "D", "C", "Z"]


def test_cancel_request_with_a_wrong_key(server: Sidecar, connection: Connection) -> None:
    """A wrong key cancels nothing; its connection is closed without an answer."""
    pid = connection.info.backend_pid
    for body in (struct.pack("!ii", pid, 12345), struct.pack("!i", pid), b"", struct.pack("!ii", 99999, 1)):
        with client(server.directory, started=False) as raw:
            raw.send(packet(CANCEL_REQUEST, body))
            assert raw.rest() == []
    assert connection.execute("SELECT 1").fetchone() == (1,)
