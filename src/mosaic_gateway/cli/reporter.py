"""Progress for whoever watches: a live line on a terminal, plain lines elsewhere; always standard error."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Protocol

import click

__all__ = ["Reporter", "reporter"]

# Control sequences (ECMA-48): the line to be drawn anew, the cursor.
LINE_ANEW = "\r\x1b[2K"
HIDE_CURSOR = "\x1b[?25l"
SHOW_CURSOR = "\x1b[?25h"


class Reporter(Protocol):
    """Shows what is being done."""

    def begin(self, text: str) -> None:
        """Say that something has begun."""

    def done(self, text: str) -> None:
        """Say that something is done."""


class _Plain:
    def __init__(self) -> None:
        self._begun = ""

    def begin(self, text: str) -> None:
        self._begun = text
        click.echo(f"{text}…", err=True)

    def done(self, text: str) -> None:
        if text != self._begun:
            click.echo(text, err=True)


class _Live:
    """One line for what is under way, drawn over; above it, what is done."""

    def __init__(self) -> None:
        self._begun = ""

    def begin(self, text: str) -> None:
        self._begun = text
        self._draw()

    def done(self, text: str) -> None:
        click.echo(f"{LINE_ANEW}{click.style('✓', fg='green')} {text}", err=True)
        if text != self._begun:
            self._draw()

    def _draw(self) -> None:
        line = f"{self._begun}…"[: shutil.get_terminal_size().columns - 1]
        click.echo(f"{LINE_ANEW}{line}", err=True, nl=False)


@contextmanager
def reporter() -> Iterator[Reporter]:
    """Give the reporter that fits standard error."""
    if not sys.stderr.isatty():
        yield _Plain()
        return
    click.echo(HIDE_CURSOR, err=True, nl=False)
    try:
        yield _Live()
    finally:
        click.echo(f"{LINE_ANEW}{SHOW_CURSOR}", err=True, nl=False)
