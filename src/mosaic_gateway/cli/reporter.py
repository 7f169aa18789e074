"""Progress for whoever watches: a live line on a terminal, plain lines elsewhere; always standard error."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Protocol

import click

if TYPE_CHECKING:
    from rich.status import Status

__all__ = ["Reporter", "reporter"]


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
    def __init__(self, status: Status) -> None:
        self._status = status

    def begin(self, text: str) -> None:
        self._status.update(f"{text}…")

    def done(self, text: str) -> None:
        self._status.console.print(f"[green]✓[/green] {text}", highlight=False)


@contextmanager
def reporter() -> Iterator[Reporter]:
    """Give the reporter that fits standard error."""
    if not sys.stderr.isatty():
        yield _Plain()
        return
    from rich.console import Console

    with Console(stderr=True).status("Starting…") as status:
        yield _Live(status)
