"""The one line with which a starting gateway answers whoever started it."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

from mosaic_gateway.errors import ExitCode, RefusedError
from mosaic_gateway.gateway.control.ready_pipe import ReadyPipe, StartupFailedError, await_line


@pytest.fixture
def pipe() -> Iterator[tuple[int, int]]:
    """The two ends of a pipe; the writing end is the test's to close."""
    reader, writer = os.pipe()
    yield reader, writer
    os.close(reader)


def test_ready(pipe: tuple[int, int]) -> None:
    """A gateway that is ready says where, and its pid; it says so once."""
    ready = ReadyPipe(pipe[1])
    assert not os.get_inheritable(pipe[1])
    ready.ready(url="http://x")
    ready.ready(url="http://y")
    assert await_line(pipe[0], 5) == {"ready": True, "pid": os.getpid(), "url": "http://x"}


def test_failed(pipe: tuple[int, int]) -> None:
    """A gateway that fails hands over its own error, exit code included."""
    ReadyPipe(pipe[1]).failed(RefusedError("too new", hint="update", details={"tag": "0010"}))
    with pytest.raises(StartupFailedError, match="too new") as caught:
        await_line(pipe[0], 5)
    assert caught.value.exit_code is ExitCode.REFUSED
    assert caught.value.to_dict() == {
        "code": "REFUSED", "message": "too new", "hint": "update", "details": {"tag": "0010"},
    }  # fmt: skip


def test_a_long_line(pipe: tuple[int, int]) -> None:
    """A message longer than one read of the pipe arrives whole."""
    text = "x" * 30_000
    ReadyPipe(pipe[1]).ready(url=text)
    line = await_line(pipe[0], 5)
    assert line is not None
    assert line["url"] == text


@pytest.mark.parametrize("said", [b"", b'{"ready": tr'])
def test_silent_death(pipe: tuple[int, int], said: bytes) -> None:
    """A gateway that dies without a whole line has said nothing."""
    os.write(pipe[1], said)
    os.close(pipe[1])
    assert await_line(pipe[0], 5) is None


def test_no_word_in_time(pipe: tuple[int, int]) -> None:
    """The wait is bounded, also when half a line has come."""
    os.write(pipe[1], b"{")
    with pytest.raises(TimeoutError):
        await_line(pipe[0], 0.05)
    os.close(pipe[1])


def test_nobody_listens() -> None:
    """A starter that has gone away does not harm the gateway, and neither does having none."""
    reader, writer = os.pipe()
    os.close(reader)
    ReadyPipe(writer).ready(url="http://x")
    ReadyPipe(None).ready(url="http://x")
