"""Progress for whoever watches: a live line on a terminal, plain lines elsewhere; always standard error."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

import click

if TYPE_CHECKING:
    from rich.status import Status
    from rich.text import Text

__all__ = ["LiveReporter", "Reporter", "reporter"]


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


@dataclass(slots=True)
class _Elapsing:
    """A text that says for how many seconds it has been true."""

    text: str
    began: float = field(default_factory=time.monotonic)

    def __rich__(self) -> Text:
        from rich.text import Text

        seconds = int(time.monotonic() - self.began)
        return Text(f"{self.text}…{f' {seconds} s' if seconds else ''}")


class _Live:
    def __init__(self, status: Status) -> None:
        self._status = status

    def begin(self, text: str) -> None:
        self._status.update(_Elapsing(text))

    def now(self, text: str) -> None:
        self._status.update(_Elapsing(text))

    def done(self, text: str) -> None:
        from rich.text import Text

        self._status.console.print(Text.assemble(("✓", "green"), f" {text}"))


@contextmanager
def reporter() -> Iterator[LiveReporter]:
    """Give the reporter that fits standard error."""
    if not sys.stderr.isatty():
        yield _Plain()
        return
    from rich.console import Console

    with Console(stderr=True).status("Starting…") as status:
        yield _Live(status)
