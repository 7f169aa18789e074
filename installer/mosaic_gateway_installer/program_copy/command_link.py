"""The link to a user's default installation in ``~/.local/bin``, where shells look for commands.

Root's link in /usr/local/bin is created and removed by root's process (`root.program_requests`).
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import ClassVar

from mosaic_gateway.config import default_home
from mosaic_gateway.hint import PROGRAM, Text
from mosaic_gateway.installation import Home, read_receipt, write_receipt
from mosaic_gateway_installer.step import Step, StepId, Target

__all__ = ["LinkCommandStep", "UnlinkCommandStep", "typed_command"]


def typed_command(home: Home, environ: Mapping[str, str]) -> str:
    """Return what a person types to run the programs of *home*: the name, or a path where ``PATH`` does not lead there.

    A path is that of the link in ``~/.local/bin``, or of the command in *home*.
    """
    command = home.launcher
    for directory in environ.get("PATH", os.defpath).split(os.pathsep):
        file = Path(directory, PROGRAM)
        if directory and os.access(file, os.X_OK):
            if _leads_to(file, command):
                return PROGRAM
            break
    link = _place(home)
    return str(link if link is not None and _leads_to(link, command) else command)


@dataclass(slots=True)
class LinkCommandStep(Step):
    """Links the command of the user's default home, unless a file of that name exists. A failure is only reported."""

    target: Target
    id: ClassVar[StepId] = StepId.LINK
    notes: Sequence[Text] = ()
    _created: bool = False

    @property
    def description(self) -> str:
        """What the step does."""
        return f"Link the command {_place(self.target.home)}"

    def done(self) -> bool:
        """Return whether the name is in use already, or the home is not the user's default one."""
        link = _place(self.target.home)
        return link is None or link.is_symlink() or link.exists()

    def apply(self) -> None:
        """Record the link in the receipt, and create it."""
        home, link = self.target.home, _place(self.target.home)
        receipt = read_receipt(home)
        if link is None or receipt is None:
            return
        write_receipt(home, replace(receipt, command=str(link)))
        try:
            link.parent.mkdir(parents=True, exist_ok=True)
            link.symlink_to(home.launcher)
            self._created = True
        except OSError as error:
            self.notes = (f"The command could not be linked to {link}: {error.strerror}.",)

    def undo(self) -> None:
        """Remove the link that this run created."""
        link = _place(self.target.home)
        if self._created and link is not None:
            _remove(link, self.target.home)


@dataclass(slots=True)
class UnlinkCommandStep(Step):
    """Removes the link that the receipt records, if it still leads to the home."""

    target: Target
    id: ClassVar[StepId] = StepId.UNLINK

    @property
    def description(self) -> str:
        """What the step does."""
        return f"Remove the link {self._link()}"

    def done(self) -> bool:
        """Return whether there is no such link."""
        link = self._link()
        return link is None or not _leads_to(link, self.target.home.launcher)

    def apply(self) -> None:
        """Remove the link."""
        link = self._link()
        if link is not None:
            _remove(link, self.target.home)

    def _link(self) -> Path | None:
        recorded = self.target.installed.command
        return Path(recorded) if recorded is not None else None


def _place(home: Home) -> Path | None:
    """Return the path of the link, None for another home than the user's default one and for root's."""
    if home.broker is not None or home.programs is not None or os.geteuid() == 0:
        return None
    with suppress(RuntimeError):  # the user has no home directory
        if home.path == default_home({}):
            return Path.home() / ".local/bin" / PROGRAM
    return None


def _leads_to(link: Path, command: Path) -> bool:
    try:
        return link.is_symlink() and os.readlink(link) == str(command)  # noqa: PTH115 - a text is compared
    except OSError:
        return False


def _remove(link: Path, home: Home) -> None:
    if _leads_to(link, home.launcher):
        with suppress(OSError):  # the link is outside of the home, and harmless
            link.unlink()
