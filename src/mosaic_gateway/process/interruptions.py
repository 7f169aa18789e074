"""Passes SIGINT, SIGTERM and SIGHUP to a function, without raising an exception."""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any, Self

__all__ = ["INTERRUPTIONS", "Interruptions"]

INTERRUPTIONS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class Interruptions:
    """Handles the signals while it is entered; signals that this process ignores stay ignored, as under nohup(1).

    The handlers do not raise: an exception between a fork and the assignment of its result would lose the child.
    """

    def __init__(self) -> None:
        self._arrived = False
        self._pending: list[int] = []
        self._receiver: Callable[[int], object] | None = None
        self._before: dict[int, Any] = {}

    def __enter__(self) -> Self:
        handled = [number for number in INTERRUPTIONS if signal.getsignal(number) is not signal.SIG_IGN]
        self._before = {number: signal.signal(number, self._handle) for number in handled}
        return self

    def __exit__(self, *_of_an_error: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    @contextmanager
    def passed_to(self, receiver: Callable[[int], object]) -> Iterator[None]:
        """Call *receiver* for each signal that arrives in the block, and for those that arrived earlier."""
        self._receiver = receiver
        self._deliver()
        try:
            yield
        finally:
            self._receiver = None

    def check(self) -> None:
        """Raise KeyboardInterrupt if a signal has arrived."""
        if self._arrived:
            raise KeyboardInterrupt

    def _handle(self, number: int, _frame: FrameType | None) -> None:
        self._arrived = True
        self._pending.append(number)
        self._deliver()

    def _deliver(self) -> None:
        while self._receiver is not None and self._pending:
            self._receiver(self._pending.pop(0))
