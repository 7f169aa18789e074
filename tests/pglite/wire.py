"""A client that sends arbitrary messages of protocol 3.0: complete, incomplete or malformed."""

from __future__ import annotations

import socket
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

PROTOCOL = 196608
SSL_REQUEST, GSSENC_REQUEST, CANCEL_REQUEST = 80877103, 80877104, 80877102
LIMIT = 60.0  # seconds


def message(kind: bytes, body: bytes = b"") -> bytes:
    """Return one message."""
    return kind + struct.pack("!i", 4 + len(body)) + body


def packet(code: int, body: bytes = b"") -> bytes:
    """Return a packet without a type byte, as used at start-up."""
    return struct.pack("!ii", 8 + len(body), code) + body


def startup(version: int = PROTOCOL, **parameters: str) -> bytes:
    """Return a start-up packet."""
    words = {"user": "mosaic", "database": "mosaic"} | parameters
    return packet(version, b"".join(f"{key}\0{value}\0".encode() for key, value in words.items()) + b"\0")


def query(sql: str) -> bytes:
    """Return a simple query."""
    return message(b"Q", sql.encode() + b"\0")


def parse(name: str, sql: str) -> bytes:
    """Return Parse without parameter types."""
    return message(b"P", f"{name}\0{sql}\0".encode() + struct.pack("!h", 0))


def bind(statement: str, *values: str) -> bytes:
    """Return Bind of the unnamed portal, with all values in text format."""
    texts = [value.encode() for value in values]
    body = struct.pack("!hh", 0, len(texts)) + b"".join(struct.pack("!i", len(t)) + t for t in texts)
    return message(b"B", f"\0{statement}\0".encode() + body + struct.pack("!h", 0))


EXECUTE = message(b"E", b"\0" + struct.pack("!i", 0))
SYNC = message(b"S")
FLUSH = message(b"H")
TERMINATE = message(b"X")


class Client:
    """A raw connection."""

    def __init__(self, directory: Path) -> None:
        """Connect without sending anything."""
        self.socket = socket.socket(socket.AF_UNIX)
        self.socket.settimeout(LIMIT)
        self.socket.connect(str(directory / ".s.PGSQL.5432"))
        self._buffer = b""

    def send(self, *parts: bytes) -> None:
        """Send *parts*."""
        self.socket.sendall(b"".join(parts))

    def receive(self) -> tuple[str, bytes] | None:
        """Return the next message as (type, body), None if the server has closed the connection."""
        head = self._exactly(5)
        if head is None:
            return None
        body = self._exactly(struct.unpack("!i", head[1:])[0] - 4)
        return None if body is None else (head[:1].decode(), body)

    def _exactly(self, count: int) -> bytes | None:
        while len(self._buffer) < count:
            try:
                more = self.socket.recv(1 << 16)
            except ConnectionResetError:
                more = b""
            if not more:
                return None
            self._buffer += more
        content, self._buffer = self._buffer[:count], self._buffer[count:]
        return content

    def until(self, kind: str) -> list[tuple[str, bytes]]:
        """Return the messages up to and including the first of type *kind*, or to the end of the connection."""
        messages = []
        while (received := self.receive()) is not None:
            messages.append(received)
            if received[0] == kind:
                break
        return messages

    def rest(self) -> list[tuple[str, bytes]]:
        """Return all messages until the server closes the connection."""
        return self.until("")

    def ask(self, sql: str) -> list[list[str]]:
        """Run a simple query; return its rows."""
        self.send(query(sql))
        return [columns(body) for kind, body in self.until("Z") if kind == "D"]

    def close(self) -> None:
        """Close the socket without Terminate."""
        self.socket.close()


def columns(row: bytes) -> list[str]:
    """Return the columns of a DataRow."""
    values, at = [], 2
    for _ in range(struct.unpack_from("!h", row)[0]):
        (length,) = struct.unpack_from("!i", row, at)
        values.append(row[at + 4 : at + 4 + length].decode())
        at += 4 + length
    return values


def fields(body: bytes) -> dict[str, str]:
    """Return the fields of an ErrorResponse."""
    return {part[:1].decode(): part[1:].decode() for part in body.split(b"\0") if part}


@contextmanager
def client(directory: Path, *, started: bool = True) -> Iterator[Client]:
    """Connect a client to the sidecar in *directory*; with *started*, complete the start-up."""
    opened = Client(directory)
    try:
        if started:
            opened.send(startup())
            assert opened.until("Z")[-1] == ("Z", b"I")
        yield opened
    finally:
        opened.close()
