"""Messages between root's process and the worker: JSON objects with file descriptors, over a Unix socket.

Format: the length in four bytes, big-endian; then one JSON object. Descriptors are sent with the first byte
(SCM_RIGHTS, unix(7)). A request is ``{"request": …, "values": {…}}``, an answer
``{"values": {…}}`` or ``{"error": …, "exit_code": n}``, with the error as `MosaicError.to_message` returns it.
"""

from __future__ import annotations

import json
import os
import select
import signal
import socket
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from mosaic_gateway.errors import ExitCode, InternalError, MosaicError
from mosaic_gateway.fs.files import parse_json
from mosaic_gateway.hint import from_json
from mosaic_gateway.process.interruptions import INTERRUPTIONS
from mosaic_gateway.process.root_requests import NONE, Reply, Request

__all__ = ["BrokerClient", "Message", "Receiver", "error_message", "receive", "send"]

LARGEST = 1 << 20  # bytes of one message
MOST_DESCRIPTORS = 4
HEADER = 4

Message = dict[str, Any]


class RemoteError(MosaicError):
    """An error raised by the broker, with its code, hint and exit code."""

    def __init__(self, error: Mapping[str, Any], exit_code: int) -> None:
        details = error.get("details")
        super().__init__(
            str(error.get("message", "")),
            hint=from_json(error.get("hint_parts") or str(error.get("hint", ""))),
            details=details if isinstance(details, dict) else None,
        )
        self.code = str(error.get("code", "FAILED"))
        self.exit_code = ExitCode(exit_code)


def send(channel: socket.socket, message: Message, descriptors: Sequence[int] = ()) -> None:
    """Send *message* with *descriptors*, which stay open here. Raises OSError if the peer has closed the socket."""
    body = json.dumps(message, default=str).encode()
    if len(body) > LARGEST:
        raise InternalError(f"a message between processes is too large: {len(body)} bytes")
    data = len(body).to_bytes(HEADER, "big") + body
    sent = socket.send_fds(channel, [data], list(descriptors)) if descriptors else channel.send(data)
    channel.sendall(data[sent:])


def receive(channel: socket.socket) -> tuple[Message, list[int]] | None:
    """Return the next message and its descriptors, None if the peer has closed the socket.

    Raises ValueError for an invalid message; the caller must then stop using the socket.
    """
    return Receiver(channel).next()


class Receiver:
    """Receives messages. If a signal interrupts `next` within a message, the next call continues with that message."""

    def __init__(self, channel: socket.socket) -> None:
        self._channel = channel
        self._received = b""
        self._descriptors: list[int] = []
        self.count = 0  # messages

    def next(self) -> tuple[Message, list[int]] | None:
        """Return the next message, as `receive` does."""
        try:
            while (missing := self._missing()) > 0:
                if not self._more(missing):
                    _close(self._descriptors)
                    return None
            message, descriptors = _message(self._received[HEADER:]), self._descriptors
        except (OSError, ValueError):
            _close(self._descriptors)
            raise
        with _uninterrupted():
            self._received, self._descriptors = b"", []
            self.count += 1
        return message, descriptors

    def _missing(self) -> int:
        if len(self._received) < HEADER:
            return HEADER - len(self._received)
        return HEADER + _bounded(int.from_bytes(self._received[:HEADER], "big")) - len(self._received)

    def _more(self, count: int) -> bool:
        """Receive up to *count* bytes into the buffer; return False at end of file."""
        # select may be interrupted by a signal: nothing has been received yet.
        if not select.select([self._channel], [], [], self._channel.gettimeout())[0]:
            raise TimeoutError("timed out within a message")
        with _uninterrupted():
            data, descriptors, _flags, _address = socket.recv_fds(
                self._channel, min(count, 65536), MOST_DESCRIPTORS if not self._received else 0
            )
            self._received += data
            self._descriptors += descriptors
        for descriptor in descriptors:
            os.set_inheritable(descriptor, False)  # noqa: FBT003 - signature of the standard library
        return bool(data)


@contextmanager
def _uninterrupted() -> Iterator[None]:
    before = signal.pthread_sigmask(signal.SIG_BLOCK, INTERRUPTIONS)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def error_message(error: MosaicError) -> Message:
    """Return the answer that reports *error*."""
    return {"error": error.to_message(), "exit_code": int(error.exit_code)}


class BrokerClient:
    """The worker's end of the channel; implements ``root_requests.Broker``. One request at a time."""

    def __init__(self, channel: socket.socket, facts: Mapping[str, Any]) -> None:
        self._channel = channel
        self._receiver = Receiver(channel)
        self._sent = 0
        self.facts = facts

    def ask(self, request: Request, values: Mapping[str, Any] = NONE, descriptors: Sequence[int] = ()) -> Reply:
        """Send *request* and wait for its answer without a timeout. Raises MosaicError.

        If a signal interrupts the wait, root's process still completes the request; the next call waits for that.
        """
        try:
            while self._receiver.count < self._sent:  # the answer to an interrupted request
                late = self._receiver.next()
                if late is None:
                    break
                _close(late[1])
            with _uninterrupted():
                send(self._channel, {"request": str(request), "values": dict(values)}, descriptors)
                self._sent += 1
            answer = self._receiver.next()
        except OSError:
            answer = None
        if answer is None:
            raise InternalError("root's process, which started this one, has exited", hint="Run the command again.")
        message, received = answer
        if "error" in message:
            _close(received)
            raise RemoteError(message["error"], int(message.get("exit_code", ExitCode.FAILED)))
        return dict(message.get("values", {})), received


def _bounded(length: int) -> int:
    if length > LARGEST:
        raise ValueError(f"a message of {length} bytes is too large")
    return length


def _message(body: bytes) -> Message:
    message = parse_json(body)
    if not isinstance(message, dict):
        raise ValueError("a message is not a JSON object")  # noqa: TRY004 - like a parse error
    return message


def _close(descriptors: Sequence[int]) -> None:
    for descriptor in descriptors:
        os.close(descriptor)
