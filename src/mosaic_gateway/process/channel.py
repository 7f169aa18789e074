"""Messages between a verb's process and the one that root started: JSON objects with descriptors, over a socket.

Form: four bytes, most significant first, with the length of what follows; then one JSON object. Descriptors travel
with the first byte (SCM_RIGHTS, unix(7)). A request is ``{"request": …, "values": {…}}``, an answer
``{"values": {…}}`` or ``{"error": {code, message, hint, details}, "exit_code": n}``.
"""

from __future__ import annotations

import json
import os
import socket
from collections.abc import Mapping, Sequence
from typing import Any

from mosaic_gateway.errors import ExitCode, InternalError, MosaicError
from mosaic_gateway.files import parse_json
from mosaic_gateway.root_requests import NONE, Answer, Request

__all__ = ["BrokerClient", "Message", "error_message", "receive", "send"]

LARGEST = 1 << 20  # bytes of one message
MOST_DESCRIPTORS = 4
HEADER = 4

Message = dict[str, Any]


class RemoteError(MosaicError):
    """The broker's error; code, hint and exit code are those of its own."""

    def __init__(self, error: Mapping[str, Any], exit_code: int) -> None:
        details = error.get("details")
        super().__init__(
            str(error.get("message", "")),
            hint=str(error.get("hint", "")),
            details=details if isinstance(details, dict) else None,
        )
        self.code = str(error.get("code", "FAILED"))
        self.exit_code = ExitCode(exit_code)


def send(channel: socket.socket, message: Message, descriptors: Sequence[int] = ()) -> None:
    """Send *message* with *descriptors*, which stay open here. Raises OSError where the other end has gone."""
    body = json.dumps(message, default=str).encode()
    if len(body) > LARGEST:
        raise InternalError(f"a message between processes has {len(body)} bytes")
    data = len(body).to_bytes(HEADER, "big") + body
    sent = socket.send_fds(channel, [data], list(descriptors)) if descriptors else channel.send(data)
    channel.sendall(data[sent:])


def receive(channel: socket.socket) -> tuple[Message, list[int]] | None:
    """Return the next message and its descriptors, None where the other end has gone.

    Raises ValueError for what is no message; then the other end is not to be trusted further.
    """
    received, descriptors = _first(channel)
    try:
        while len(received) < HEADER:
            received += _some(channel, HEADER - len(received))
        length = int.from_bytes(received[:HEADER], "big")
        while len(received) < HEADER + length:
            received += _some(channel, HEADER + _bounded(length) - len(received))
        message = _message(received[HEADER:])
    except EOFError:
        _close(descriptors)
        return None
    except BaseException:
        _close(descriptors)
        raise
    return message, descriptors


def error_message(error: MosaicError) -> Message:
    """Return the answer that hands *error* on."""
    return {"error": error.to_dict(), "exit_code": int(error.exit_code)}


class BrokerClient:
    """The verb's end: implements ``root_requests.Broker``. One request at a time."""

    def __init__(self, channel: socket.socket, facts: Mapping[str, Any]) -> None:
        self._channel = channel
        self.facts = facts

    def ask(self, request: Request, values: Mapping[str, Any] = NONE, descriptors: Sequence[int] = ()) -> Answer:
        """Send *request* and wait for its answer, however long it takes. Raises MosaicError."""
        try:
            send(self._channel, {"request": str(request), "values": dict(values)}, descriptors)
            answer = receive(self._channel)
        except OSError:
            answer = None
        if answer is None:
            raise InternalError("root's process, which started this one, has ended", hint="Run the command again.")
        message, received = answer
        if "error" in message:
            _close(received)
            raise RemoteError(message["error"], int(message.get("exit_code", ExitCode.FAILED)))
        return dict(message.get("values", {})), received


def _bounded(length: int) -> int:
    if length > LARGEST:
        raise ValueError(f"a message of {length} bytes")
    return length


def _message(body: bytes) -> Message:
    message = parse_json(body)
    if not isinstance(message, dict):
        raise ValueError("a message is no JSON object")  # noqa: TRY004 - as what cannot be read
    return message


def _first(channel: socket.socket) -> tuple[bytes, list[int]]:
    data, descriptors, _flags, _address = socket.recv_fds(channel, HEADER, MOST_DESCRIPTORS)
    for descriptor in descriptors:
        os.set_inheritable(descriptor, False)  # noqa: FBT003 - as the system call has it
    return data, list(descriptors)


def _some(channel: socket.socket, count: int) -> bytes:
    data = channel.recv(min(count, 65536))
    if not data:
        raise EOFError
    return data


def _close(descriptors: Sequence[int]) -> None:
    for descriptor in descriptors:
        os.close(descriptor)
