"""The base of all steps, and the target that the steps of one verb share."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import ClassVar

from mosaic_gateway.config import Config
from mosaic_gateway.hint import Text
from mosaic_gateway.installation.layout import Home
from mosaic_gateway_installer.step_journal import Journal

__all__ = ["Step", "StepId", "Target"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """The state that a verb brings an installation to.

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


class StepId(StrEnum):
    """The ids of the steps, as in the journal and in ``--dry-run --json``."""

    BACKUP = "backup"
    CHECK_LOSS = "check-loss"
    CLUSTER = "cluster"
    CLUSTER_BACK = "cluster-back"
    CONFIG = "config"
    COPY = "copy"
    EMPTY_HOME = "empty-home"
    ERASE = "erase"
    FILL = "fill"
    HOME = "home"
    LAUNCH = "launch"
    LEAVE = "leave"
    MAJOR_UPGRADE = "major-upgrade"
    MARK = "mark"
    MIGRATE = "migrate"
    NOTE = "note"
    PROGRAM = "program"
    PROGRAM_BACK = "program-back"
    PRUNE = "prune"
    RECEIPT_BACK = "receipt-back"
    REMOVE_CACHES = "remove-caches"
    REMOVE_PROGRAMS = "remove-programs"
    RUNTIME = "runtime"
    SCHEMA = "schema"
    SEAL = "seal"
    SECRET = "secret"  # noqa: S105 - the id of a step
    SERVICE = "service"
    SET_ASIDE = "set-aside"
    SMOKE_TEST = "smoke-test"
    STAGE = "stage"
    START = "start"
    STOP = "stop"
    STOP_AGAIN = "stop-again"
    SWAP = "swap"
    SWITCH = "switch"
    UNREGISTER = "unregister"


class Step(ABC):
    """One reversible change. What was done is read from the machine and from the journal, not from memory."""

    __slots__ = ()
    id: ClassVar[StepId]
    #: Lines for the output of the verb, after `apply`.
    notes: Sequence[Text] = ()

    @property
    @abstractmethod
    def description(self) -> str:
        """What the step does, for display: "Create the database cluster"."""

    def done(self) -> bool:
        """Return whether the change is already in place. Reads only; requires no earlier step. By default it is not."""
        return False

    @abstractmethod
    def apply(self) -> None:
        """Apply the change, also over what a killed attempt left. Raises MosaicError and OSError."""

    def undo(self) -> None:  # noqa: B027 - most of the last steps of a verb have nothing to undo
        """Undo what `apply` did in this run, even if it did not complete; by default nothing. Raises OSError."""
