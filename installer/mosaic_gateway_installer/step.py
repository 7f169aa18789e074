"""The step protocol, and the context that the steps of one verb share."""

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
    """The target state of the installation.

    ``account_name`` is the service account that owns the home, for display only; None for the user who runs the
    installer. ``new_directories`` are the home and its parents that do not exist yet, outermost first; empty if the
    home exists. ``engine_reason`` states why the engine was chosen; ``engine_chosen`` is True if the caller named
    none.
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
    """One reversible change. What was done is read from the machine and from the journal, not from memory."""

    @property
    def id(self) -> str:
        """Return a short stable name, as used in the journal and in ``--dry-run --json``."""

    @property
    def description(self) -> str:
        """Return what the step does, for display: "Create the database cluster"."""

    def done(self) -> bool:
        """Return whether the change is already in place. Reads only; requires no earlier step."""

    def apply(self) -> None:
        """Apply the change, also over what a killed attempt left. Raises MosaicError and OSError."""

    def undo(self) -> None:
        """Undo what `apply` did in this run, even if it did not complete. Raises OSError."""
