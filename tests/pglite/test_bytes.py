"""What is not the protocol, or only half of it."""

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

ABSURD = [0, 3, 2**30, 2**31 - 1, 2**32 - 1]


def test_encryption_is_declined(server: Sidecar) -> None:
    """SSLRequest and GSSENCRequest are answered with N, any number of them; then the connection begins."""
    with client(server.directory, started=False) as raw:
        for code in (GSSENC_REQUEST, SSL_REQUEST, SSL_REQUEST):
            raw.send(packet(code))
            assert raw.socket.recv(10) == b"N"
        raw.send(startup())
        assert raw.until("Z")[-1] == ("Z", b"I")


def test_libpq_asks_for_encryption_first(server: Sidecar) -> None:
    """psycopg with sslmode=prefer connects; with require it says why not."""
    server.connect(sslmode="prefer", gssencmode="disable").close()


def test_the_greeting(server: Sidecar) -> None:
    """A connection is told the parameters that drivers need, and a key of its own."""
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
    """A client of protocol 3.2 is told that it is 3.0, and which options are unknown."""
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
def test_garbage_at_the_beginning(server: Sidecar, connection: Connection, garbage: bytes) -> None:
    """What is no start-up packet closes its connection, and nothing else happens."""
    with client(server.directory, started=False) as raw:
        raw.send(garbage)
        assert raw.rest() == []
    assert connection.execute("SELECT 1").fetchone() == (1,)


@pytest.mark.parametrize("length", ABSURD)
def test_absurd_lengths(server: Sidecar, connection: Connection, length: int) -> None:
    """A length that cannot be is FATAL 08P01, and reserves no memory."""
    before = server.memory
    with client(server.directory) as raw:
        raw.send(b"Q" + struct.pack("!I", length) + b"SELECT 1\0")
        error = fields(raw.rest()[-1][1])
    assert (error["S"], error["C"]) == ("FATAL", "08P01")
    assert server.memory - before < 50_000_000
    assert connection.execute("SELECT 1").fetchone() == (1,)


def test_a_message_beyond_the_limit(server: Sidecar) -> None:
    """A length that PostgreSQL would take but this heap would not is refused before it comes."""
    with client(server.directory) as raw:
        raw.send(b"Q" + struct.pack("!I", 2**29) + b"SELECT 1\0")
        assert fields(raw.rest()[-1][1])["C"] == "54000"


def test_garbage_after_the_beginning(server: Sidecar, connection: Connection) -> None:
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
    """A message with a wrong inside is an error of its own connection; the database lives on."""
    with client(server.directory) as raw:
        raw.send(wrong, message(b"S"))
        raw.send(query("SELECT 'alive'"))
        seen = raw.until("Z")
        assert any(kind == "E" for kind, _ in seen)
    assert connection.execute("SELECT 1").fetchone() == (1,)


def test_random_bytes(server: Sidecar, connection: Connection) -> None:
    """A few hundred kilobytes of noise after the beginning, of known types and short lengths, kill nobody."""
    noise = random.Random(18)
    for _ in range(60):
        with client(server.directory) as raw:
            for _ in range(20):
                kind = bytes([noise.choice(b"QPBEDCSHFdcf")])
                raw.send(message(kind, noise.randbytes(noise.randrange(40))))
            raw.send(message(b"X"))
    assert connection.execute("SELECT 1").fetchone() == (1,)


def test_byte_by_byte(server: Sidecar) -> None:
    """Messages may come in any pieces."""
    with client(server.directory, started=False) as raw:
        for byte in packet(SSL_REQUEST):
            raw.send(bytes([byte]))
        assert raw.socket.recv(10) == b"N"
        for byte in startup() + query("SELECT 'piecemeal'"):
            raw.send(bytes([byte]))
        raw.until("Z")
        assert [kind for kind, _ in raw.until("Z")] == ["T", "D", "C", "Z"]


def test_a_cancel_request_that_fits_nobody(server: Sidecar, connection: Connection) -> None:
    """A wrong key cancels nothing; its connection is closed without a word."""
    pid = connection.info.backend_pid
    for body in (struct.pack("!ii", pid, 12345), struct.pack("!i", pid), b"", struct.pack("!ii", 99999, 1)):
        with client(server.directory, started=False) as raw:
            raw.send(packet(CANCEL_REQUEST, body))
            assert raw.rest() == []
    assert connection.execute("SELECT 1").fetchone() == (1,)
