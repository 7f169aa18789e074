"""One invocation of the command line: its arguments, and the side (root or home owner) that its process is on."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import click

from mosaic_gateway.hint import PROGRAM
from mosaic_gateway.process.root_requests import Broker

__all__ = ["Invocation", "RootSide", "Verbs", "current_invocation"]

#: Verb → module, attribute, short help.
Verbs = Mapping[str, tuple[str, str, str]]


class RootSide(Protocol):
    """Runs a verb on behalf of root on the home of another account."""

    def run(self, invocation: Invocation, verb: str, home: Path, options: Mapping[str, Any]) -> int:
        """Run the verb in a process of the home's owner and return its exit code. Raises MosaicError, OSError."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Invocation:
    """An invocation of the command line.

    ``words`` are its arguments; relative paths are resolved against ``directory``. ``broker`` performs operations that
    need root; it is set if root's process started this one. ``root_side`` runs verbs that root calls on an account's
    home; if it is None, verbs run in this process. ``load`` imports what a verb needs. ``program`` is the command that
    hints name.
    """

    verbs: Verbs
    words: Sequence[str]
    directory: Path
    broker: Broker | None = None
    root_side: RootSide | None = None
    load: Callable[[str], None] = field(default=lambda _verb: None)
    program: str = PROGRAM

    def absolute(self, path: Path) -> Path:
        """Return *path* resolved against the caller's directory. Raises RuntimeError for an unknown ``~user``."""
        return Path(self.directory, path.expanduser())


def current_invocation() -> Invocation | None:
    """Return the invocation of the current click context, None outside of one."""
    context = click.get_current_context(silent=True)
    return context.find_object(Invocation) if context is not None else None
