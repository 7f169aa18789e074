"""A proxy between a client and PostgreSQL that parses the protocol and stops at a chosen message.

Source: PostgreSQL 18, "Frontend/Backend Protocol", "Message Formats": a start-up packet of length and body,
then messages of a type byte, a length that includes itself, and a body. Over a Unix socket libpq requests neither
TLS nor GSSAPI encryption.
"""

from __future__ import annotations

import select
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Self

import psycopg

HEADER = 4  # bytes of a length
CHUNK = 1 << 16
POLL = 0.05  # seconds between two checks whether the proxy was closed


@dataclass(frozen=True, slots=True)
class Message:
    """Message ``number`` (from 0) of both directions together; ``kind`` is its type byte as a letter."""

    number: int
    to_server: bool
    kind: str
    body: bytes

    @property
    def boundary(self) -> bool:
        """Whether it makes sense to stop here: before a query, or before the end of the answer to one."""
        return self.kind in {"Q", "P"} if self.to_server else self.kind == "Z"


@dataclass(slots=True)
class _Stream:
    """The bytes of one direction, split into messages."""

    to_server: bool
    started: bool
    waiting: bytearray = field(default_factory=bytearray)

    def messages(self, received: bytes) -> Iterator[tuple[str, bytes]]:
        self.waiting += received
        while True:
            letter = 1 if self.started else 0
            if len(self.waiting) < letter + HEADER:
                return
            length = letter + int.from_bytes(self.waiting[letter : letter + HEADER], "big")
            if len(self.waiting) < length:
                return
            message = bytes(self.waiting[:length])
            del self.waiting[:length]
            self.started = True
            yield (chr(message[0]) if letter else ""), message


@dataclass(slots=True)
class Wire:
    """Listens in ``directory`` and forwards every connection to the server in ``upstream``.

    Set ``stop`` before a client connects: the first message for which it returns true is not forwarded, nor is any
    message after it. ``seen`` are the forwarded messages. When the client disconnects, its connection to the server
    is closed.
    """

    upstream: Path
    directory: Path
    stop: Callable[[Message], bool] = lambda _message: False
    seen: list[Message] = field(default_factory=list)
    frozen: threading.Event = field(default_factory=threading.Event)
    _ended: threading.Event = field(default_factory=threading.Event)
    _threads: list[threading.Thread] = field(default_factory=list)

    @classmethod
    @contextmanager
    def open(cls, upstream: Path, directory: Path) -> Iterator[Self]:
        """Listen inside the block."""
        wire = cls(upstream / ".s.PGSQL.5432", directory)
        with socket.socket(socket.AF_UNIX) as listener:
            listener.bind(str(directory / ".s.PGSQL.5432"))
            listener.listen()
            accepting = threading.Thread(target=wire._accept, args=(listener,))
            accepting.start()
            try:
                yield wire
            finally:
                wire._ended.set()
                for thread in (accepting, *wire._threads):
                    thread.join()

    def conninfo(self, conninfo: str) -> str:
        """Return *conninfo* with the proxy as its host."""
        return psycopg.conninfo.make_conninfo(conninfo, host=str(self.directory))

    def rearm(self, stop: Callable[[Message], bool]) -> None:
        """Stop at the first message for which *stop* returns true."""
        self.seen.clear()
        self.frozen.clear()
        self.stop = stop

    def _accept(self, listener: socket.socket) -> None:
        while not self._ended.is_set():
            if select.select([listener], [], [], POLL)[0]:
                client, _ = listener.accept()
                thread = threading.Thread(target=self._serve, args=(client,))
                thread.start()
                self._threads.append(thread)

    def _serve(self, client: socket.socket) -> None:
        with client, socket.socket(socket.AF_UNIX) as server, suppress(ConnectionError):
            server.connect(str(self.upstream))
            streams = {client: _Stream(to_server=True, started=False), server: _Stream(to_server=False, started=True)}
            frozen = False
            while not self._ended.is_set():
                # A stopped client is still polled: its disconnect must be passed on to the server.
                for source in select.select([client] if frozen else [client, server], [], [], POLL)[0]:
                    received = source.recv(CHUNK)
                    if not received:
                        return
                    frozen = frozen or self._forward(streams[source], received, server if source is client else client)

    def _forward(self, stream: _Stream, received: bytes, target: socket.socket) -> bool:
        """Forward messages; return True if one of them is to be stopped."""
        for kind, body in stream.messages(received):
            message = Message(len(self.seen), stream.to_server, kind, body)
            if self.stop(message):
                self.frozen.set()
                return True
            self.seen.append(message)
            target.sendall(body)
        return False
