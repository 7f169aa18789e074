"""What a step is, and what steps are told of the installation that they belong to."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from mosaic_gateway.config import Config
from mosaic_gateway.installation.layout import Home
from mosaic_gateway_installer.step_journal import Journal

__all__ = ["Context", "Step"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Context:
    """The installation as it shall be.

    ``account_name`` is the service account that the home belongs to, only to be shown; None for the user who runs
    the installer. ``new_directories`` are the home and those above it that were not there before, outermost first;
    none if the home was there. ``engine_reason`` says why the home gets the engine that it gets; ``engine_chosen``
    whether none was named.
    """

    home: Home
    config: Config
    account_name: str | None
    new_directories: tuple[Path, ...]
    engine_reason: str = ""
    engine_chosen: bool = False

    @property
    def journal(self) -> Journal:
        """The home's journal."""
        return Journal(self.home.journal)


class Step(Protocol):
    """One change. Nothing is remembered between its calls but what is on the machine."""

    @property
    def id(self) -> str:
        """A short stable name, as in the journal and in ``--dry-run --json``."""

    @property
    def description(self) -> str:
        """What the step does, for a person: "Create the database cluster"."""

    def done(self) -> bool:
        """Return whether the change is there already. Reads only; needs no earlier step."""

    def apply(self) -> None:
        """Make the change; also over what a killed attempt left. Raises MosaicError and OSError."""

    def undo(self) -> None:
        """Take back what `apply` of this run made, whole or in part. Raises OSError."""
