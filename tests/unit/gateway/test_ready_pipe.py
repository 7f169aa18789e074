"""The readiness line from a starting gateway to the process that started it."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from mosaic_gateway.errors import ExitCode, RefusedError
from mosaic_gateway.gateway.control.ready_pipe import ReadyPipe, StartupFailedError, await_line
from mosaic_gateway.hint import Caller, command


@pytest.fixture
def pipe() -> Iterator[tuple[int, int]]:
    """The two ends of a pipe; the test closes the write end."""
    reader, writer = os.pipe()
    yield reader, writer
    os.close(reader)


def test_ready(pipe: tuple[int, int]) -> None:
    """A ready gateway reports its URL and pid, once."""
    ready = ReadyPipe(pipe[1])
    assert not os.get_inheritable(pipe[1])
    ready.ready(url="http://x")
    ready.ready(url="http://y")
    assert await_line(pipe[0], 5) == {"ready": True, "pid": os.getpid(), "url": "http://x"}


def test_failed(pipe: tuple[int, int]) -> None:
    """A failed gateway reports its own error, including the exit code."""
    ReadyPipe(pipe[1]).failed(RefusedError("too new", hint="update", details={"tag": "0010"}))
    with pytest.raises(StartupFailedError, match="too new") as caught:
        await_line(pipe[0], 5)
    assert caught.value.exit_code is ExitCode.REFUSED
    assert caught.value.to_dict() == {
        "code": "REFUSED", "message": "too new", "hint": "update", "details": {"tag": "0010"},
    }  # fmt: skip


def test_a_hint_arrives_as_data(pipe: tuple[int, int]) -> None:
    """The process that started the gateway renders the commands of the hint, since it has the person's options."""
    ReadyPipe(pipe[1]).failed(RefusedError("too new", hint="Run " + command("upgrade") + "."))
    with pytest.raises(StartupFailedError) as caught:
        await_line(pipe[0], 5)
    assert Caller(home=Path("/srv/gw")).text(caught.value.hint) == "Run mosaic-gateway upgrade --home /srv/gw."


def test_long_line(pipe: tuple[int, int]) -> None:
    """A line longer than one read of the pipe arrives complete."""
    text = "x" * 30_000
    ReadyPipe(pipe[1]).ready(url=text)
    line = await_line(pipe[0], 5)
    assert line is not None
    assert line["url"] == text


@pytest.mark.parametrize("written", [b"", b'{"ready": tr'])
def test_exit_without_a_line(pipe: tuple[int, int], written: bytes) -> None:
    """A gateway that exits before a complete line has reported nothing."""
    os.write(pipe[1], written)
    os.close(pipe[1])
    assert await_line(pipe[0], 5) is None


def test_timeout(pipe: tuple[int, int]) -> None:
    """The wait has a time limit, also after an incomplete line."""
    os.write(pipe[1], b"{")
    with pytest.raises(TimeoutError):
        await_line(pipe[0], 0.05)
    os.close(pipe[1])


def test_no_reader() -> None:
    """A starter that has exited, or a missing pipe, causes no error in the gateway."""
    reader, writer = os.pipe()
    os.close(reader)
    ReadyPipe(writer).ready(url="http://x")
    ReadyPipe(None).ready(url="http://x")
