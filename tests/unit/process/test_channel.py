"""Messages between root's process and the worker: framing, limits, and interruption by signals."""

from __future__ import annotations

import os
import signal
import socket
import threading
import time
from collections.abc import Iterator

import pytest

from mosaic_gateway.errors import MosaicError, RefusedError
from mosaic_gateway.hint import command
from mosaic_gateway.process.channel import BrokerClient, Receiver, error_message, receive, send
from mosaic_gateway.process.root_requests import Request

Pair = tuple[socket.socket, socket.socket]


@pytest.fixture
def pair() -> Iterator[Pair]:
    """A connected pair of sockets."""
    ours, theirs = socket.socketpair()
    with ours, theirs:
        yield ours, theirs


def test_a_message_and_its_descriptors(pair: Pair) -> None:
    """A message arrives with its descriptors, which are not inheritable."""
    ours, theirs = pair
    reader, writer = os.pipe()
    send(ours, {"a": "ä"}, [writer])
    os.close(writer)
    received = receive(theirs)
    assert received is not None
    message, descriptors = received
    assert message == {"a": "ä"}
    assert not os.get_inheritable(descriptors[0])
    os.write(descriptors[0], b"x")
    assert os.read(reader, 1) == b"x"
    for descriptor in (reader, *descriptors):
        os.close(descriptor)


def test_closed_by_the_peer(pair: Pair) -> None:
    """End of file within a message is the same as end of file between messages: None."""
    ours, theirs = pair
    ours.sendall(b"\0\0\0\5ab")
    ours.close()
    assert receive(theirs) is None


@pytest.mark.parametrize("data", [b"\xff\xff\xff\xff", b"\0\0\0\1[", b"\0\0\0\2[]", b"\0\0\0\1\xff"])
def test_invalid_messages(pair: Pair, data: bytes) -> None:
    """A message that is too long, malformed or not an object is a ValueError, without waiting for more data."""
    ours, theirs = pair
    ours.sendall(data)
    with pytest.raises(ValueError, match=r"."):
        receive(theirs)


def test_timeout_within_a_message(pair: Pair) -> None:
    """An incomplete message is a TimeoutError after the time limit."""
    ours, theirs = pair
    theirs.settimeout(0.1)
    ours.sendall(b"\0\0")
    with pytest.raises(TimeoutError):
        receive(theirs)


def test_an_error_of_the_broker(pair: Pair) -> None:
    """Code, message, hint and exit code of the broker's error are preserved; commands in a hint stay values."""
    ours, theirs = pair
    send(ours, error_message(RefusedError("no", hint="Do this.")))
    with pytest.raises(MosaicError) as caught:
        BrokerClient(theirs, {}).ask(Request.STOP_UNIT)
    assert (caught.value.code, caught.value.message, caught.value.hint) == ("REFUSED", "no", "Do this.")
    assert caught.value.exit_code == 7
    hint = "Run " + command("install") + "."
    send(ours, error_message(RefusedError("no", hint=hint)))
    with pytest.raises(MosaicError) as caught:
        BrokerClient(theirs, {}).ask(Request.STOP_UNIT)
    assert caught.value.hint == hint


def test_request_after_an_interrupted_one(pair: Pair) -> None:
    """The late answer to a request that Ctrl-C interrupted is not mistaken for the answer to the next one."""
    ours, theirs = pair
    client = BrokerClient(theirs, {})
    interrupt = threading.Timer(0.2, lambda: os.kill(os.getpid(), signal.SIGINT))
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        interrupt.start()
        with pytest.raises(KeyboardInterrupt):
            client.ask(Request.PLACE_PROGRAM)
    finally:
        signal.signal(signal.SIGINT, before)

    def answer() -> None:
        served = Receiver(ours)
        for _ in range(2):
            asked = served.next()
            assert asked is not None
            time.sleep(0.05)
            send(ours, {"values": {"to": asked[0]["request"]}})

    serving = threading.Thread(target=answer)
    serving.start()
    assert client.ask(Request.REMOVE_PROGRAMS, {"names": []})[0] == {"to": "remove-programs"}
    serving.join()
