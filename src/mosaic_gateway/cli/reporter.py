"""Progress for whoever watches: a live line on a terminal, plain lines elsewhere; always standard error."""

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

# Control sequences (ECMA-48): the line to be drawn anew, the cursor.
LINE_ANEW = "\r\x1b[2K"
HIDE_CURSOR = "\x1b[?25l"
SHOW_CURSOR = "\x1b[?25h"
TICK = 1.0  # seconds


class Reporter(Protocol):
    """Shows what is being done."""

    def begin(self, text: str) -> None:
        """Say that something has begun."""

    def done(self, text: str) -> None:
        """Say that something is done."""


class LiveReporter(Reporter, Protocol):
    """Shows what goes on, too."""

    def now(self, text: str) -> None:
        """Show what is going on and for how long, where that goes away again: on a terminal alone."""


class _Plain:
    def __init__(self) -> None:
        self._begun = ""

    def begin(self, text: str) -> None:
        self._begun = text
        click.echo(f"{text}…", err=True)

    def now(self, text: str) -> None:
        pass

    def done(self, text: str) -> None:
        if text != self._begun:
            click.echo(text, err=True)


class _Live:
    """One line for what is under way, drawn over; above it, what is done."""

    def __init__(self) -> None:
        self._begun = ""
        self._since = time.monotonic()
        self._drawing = threading.Lock()

    def begin(self, text: str) -> None:
        with self._drawing:
            self._begun, self._since = text, time.monotonic()
            self._draw()

    now = begin

    def done(self, text: str) -> None:
        with self._drawing:
            click.echo(f"{LINE_ANEW}{click.style('✓', fg='green')} {text}", err=True)
            if text != self._begun:
                self._draw()

    def tick_until(self, ended: threading.Event) -> None:
        """Draw the line again from time to time: it says for how many seconds it has been true."""
        while not ended.wait(TICK):
            with self._drawing:
                if not ended.is_set():
                    self._draw()

    def _draw(self) -> None:
        if not self._begun:
            return
        seconds = int(time.monotonic() - self._since)
        line = f"{self._begun}…{f' {seconds} s' if seconds else ''}"[: shutil.get_terminal_size().columns - 1]
        click.echo(f"{LINE_ANEW}{line}", err=True, nl=False)


@contextmanager
def reporter() -> Iterator[LiveReporter]:
    """Give the reporter that fits standard error."""
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
        click.echo(f"{LINE_ANEW}{SHOW_CURSOR}", err=True, nl=False)
