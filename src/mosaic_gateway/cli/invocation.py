"""One call of the command line: its words, and where its process stands between root and a home's owner."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import click

from mosaic_gateway.process.root_requests import Broker

__all__ = ["Invocation", "RootSide", "Verbs", "current_invocation"]

#: Verb → module, attribute, short help.
Verbs = Mapping[str, tuple[str, str, str]]


class RootSide(Protocol):
    """What root's process does for a verb on an account's home."""

    def run(self, invocation: Invocation, verb: str, home: Path, options: Mapping[str, Any]) -> int:
        """Run the verb in a process of the home's owner and return its exit code. Raises MosaicError, OSError."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Invocation:
    """A call of the command line.

    ``words`` are its arguments, ``directory`` is where relative paths begin. ``broker`` answers what only root can do;
    it is there where root's process has started this one. ``root_side`` is what root's process hands a verb to, None
    where verbs run as they are; ``load`` loads what a verb needs.
    """

    verbs: Verbs
    words: Sequence[str]
    directory: Path
    broker: Broker | None = None
    root_side: RootSide | None = None
    load: Callable[[str], None] = field(default=lambda _verb: None)

    def absolute(self, path: Path) -> Path:
        """Return *path* as it was meant where the command was called. Raises RuntimeError for an unknown ``~user``."""
        return Path(self.directory, path.expanduser())


def current_invocation() -> Invocation | None:
    """Return the call that click works on, None outside of one."""
    context = click.get_current_context(silent=True)
    return context.find_object(Invocation) if context is not None else None
