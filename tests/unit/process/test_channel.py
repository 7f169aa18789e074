"""Messages between root's process and the worker: whole, bounded, and in step whatever interrupts them."""

from __future__ import annotations

import os
import signal
import socket
import threading
import time
from collections.abc import Iterator

import pytest

from mosaic_gateway.errors import MosaicError, RefusedError
from mosaic_gateway.process.channel import BrokerClient, Receiver, error_message, receive, send
from mosaic_gateway.process.root_requests import Request

Pair = tuple[socket.socket, socket.socket]


@pytest.fixture
def pair() -> Iterator[Pair]:
    """Return the two ends."""
    ours, theirs = socket.socketpair()
    with ours, theirs:
        yield ours, theirs


def test_a_message_and_its_descriptors(pair: Pair) -> None:
    """What is sent arrives, with open descriptors that no program of ours inherits."""
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


def test_the_other_end_has_gone(pair: Pair) -> None:
    """Between messages or within one, that is no message."""
    ours, theirs = pair
    ours.sendall(b"\0\0\0\5ab")
    ours.close()
    assert receive(theirs) is None


@pytest.mark.parametrize("data", [b"\xff\xff\xff\xff", b"\0\0\0\1[", b"\0\0\0\2[]", b"\0\0\0\1\xff"])
def test_what_is_no_message(pair: Pair, data: bytes) -> None:
    """Too long, broken, or no object: a ValueError, and nothing is waited for."""
    ours, theirs = pair
    ours.sendall(data)
    with pytest.raises(ValueError, match=r"."):
        receive(theirs)


def test_half_a_message_is_waited_for_no_longer_than_the_limit(pair: Pair) -> None:
    """Whoever sends half a message keeps nobody waiting for ever."""
    ours, theirs = pair
    theirs.settimeout(0.1)
    ours.sendall(b"\0\0")
    with pytest.raises(TimeoutError):
        receive(theirs)


def test_an_error_is_the_other_ends_own(pair: Pair) -> None:
    """Code, message, hint and exit code."""
    ours, theirs = pair
    send(ours, error_message(RefusedError("no", hint="Do this.")))
    with pytest.raises(MosaicError) as caught:
        BrokerClient(theirs, {}).ask(Request.STOP_UNIT)
    assert (caught.value.code, caught.value.message, caught.value.hint) == ("REFUSED", "no", "Do this.")
    assert caught.value.exit_code == 7


def test_an_interrupted_request_leaves_the_next_its_own_answer(pair: Pair) -> None:
    """Ctrl-C while root's process works: the answer comes later, and is not taken for that of another request."""
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
