"""Progress output on standard error: a live line on a terminal, plain lines otherwise."""

from __future__ import annotations

import shutil
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Protocol

import click

__all__ = ["LiveReporter", "Reporter", "reporter"]

# Control sequences (ECMA-48): clear the line; hide and show the cursor.
CLEAR_LINE = "\r\x1b[2K"
HIDE_CURSOR = "\x1b[?25l"
SHOW_CURSOR = "\x1b[?25h"
TICK = 1.0  # seconds


class Reporter(Protocol):
    """Reports the beginning and end of operations."""

    def begin(self, text: str) -> None:
        """Report that the operation *text* has begun."""

    def done(self, text: str) -> None:
        """Report that an operation is done; *text* describes its result."""


class LiveReporter(Reporter, Protocol):
    """Reports intermediate states as well."""

    def now(self, text: str) -> None:
        """Show the current state and its duration, on a terminal only; the next output replaces it."""


class _Plain:
    def __init__(self) -> None:
        self._current = ""

    def begin(self, text: str) -> None:
        self._current = text
        click.echo(f"{text}…", err=True)

    def now(self, text: str) -> None:
        pass

    def done(self, text: str) -> None:
        if text != self._current:
            click.echo(text, err=True)


class _Live:
    """One line for the current operation, which is overwritten; above it, the finished operations."""

    def __init__(self) -> None:
        self._current = ""
        self._since = time.monotonic()
        self._drawing = threading.Lock()

    def begin(self, text: str) -> None:
        with self._drawing:
            self._current, self._since = text, time.monotonic()
            self._draw()

    now = begin

    def done(self, text: str) -> None:
        with self._drawing:
            click.echo(f"{CLEAR_LINE}{click.style('✓', fg='green')} {text}", err=True)
            if text != self._current:
                self._draw()

    def tick_until(self, ended: threading.Event) -> None:
        """Redraw the line every `TICK` seconds with the elapsed time, until *ended* is set."""
        while not ended.wait(TICK):
            with self._drawing:
                if not ended.is_set():
                    self._draw()

    def _draw(self) -> None:
        if not self._current:
            return
        seconds = int(time.monotonic() - self._since)
        line = f"{self._current}…{f' {seconds} s' if seconds else ''}"[: shutil.get_terminal_size().columns - 1]
        click.echo(f"{CLEAR_LINE}{line}", err=True, nl=False)


@contextmanager
def reporter() -> Iterator[LiveReporter]:
    """Yield a reporter for standard error."""
    if not sys.stderr.isatty():
        yield _Plain()
        return
    live, ended = _Live(), threading.Event()
    ticking = threading.Thread(target=live.tick_until, args=(ended,), daemon=True)
    click.echo(HIDE_CURSOR, err=True, nl=False)
    ticking.start()
    try:
        yield live
    finally:
        ended.set()
        ticking.join()
        click.echo(f"{CLEAR_LINE}{SHOW_CURSOR}", err=True, nl=False)
