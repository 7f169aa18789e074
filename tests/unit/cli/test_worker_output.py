"""Control sequences in the output of a worker are not passed to root's terminal."""

from __future__ import annotations

import os
import tty
from collections.abc import Iterator

import pytest

from mosaic_gateway.cli.worker_process import _Output


@pytest.fixture
def terminal() -> Iterator[tuple[int, int]]:
    """A pseudo terminal in raw mode: its two ends, (user, program)."""
    user_end, program_end = os.openpty()
    tty.setraw(program_end)
    yield user_end, program_end
    os.close(user_end)
    os.close(program_end)


@pytest.mark.parametrize("border", range(1, 12))
def test_control_sequences_split_between_writes(terminal: tuple[int, int], border: int) -> None:
    """A C1 control character (ECMA-48) or escape sequence is replaced even if it is split between two writes."""
    user_end, program_end = terminal
    text = "é\x9b5n\x1b]0;t".encode()
    writer = _Output(quiet=False)
    writer.write(program_end, text[:border])
    writer.write(program_end, text[border:])
    writer.write(program_end, b"end")
    received = b""
    while not received.endswith(b"end"):
        received += os.read(user_end, 100)
    assert received == "é?5n?]0;tend".encode()
