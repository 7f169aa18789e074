"""What a worker writes reaches a terminal of root's without control sequences, however it arrives."""

from __future__ import annotations

import os
import tty
from collections.abc import Iterator

import pytest

from mosaic_gateway.cli.worker_process import _Output


@pytest.fixture
def terminal() -> Iterator[tuple[int, int]]:
    """A pseudo terminal that changes nothing: the person's side, and ours."""
    person, ours = os.openpty()
    tty.setraw(ours)
    yield person, ours
    os.close(person)
    os.close(ours)


@pytest.mark.parametrize("border", range(1, 12))
def test_control_characters_do_not_pass_over_a_border(terminal: tuple[int, int], border: int) -> None:
    """A C1 control character (ECMA-48), or an escape sequence, is replaced where two reads have a part of it each."""
    person, ours = terminal
    text = "é\x9b5n\x1b]0;t".encode()
    shown = _Output(quiet=False)
    shown.write(ours, text[:border])
    shown.write(ours, text[border:])
    shown.write(ours, b"end")
    received = b""
    while not received.endswith(b"end"):
        received += os.read(person, 100)
    assert received == "é?5n?]0;tend".encode()
