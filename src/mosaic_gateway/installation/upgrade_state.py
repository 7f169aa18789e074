"""The state of an upgrade in progress, which every process that starts a gateway reads.

Theory of operation. ``upgrade.json`` exists from before the gateway is stopped until the upgrade has ended, and records
its phase. *prepared*: the data is unchanged and the old program may run. *changing*: the data may be between two
versions, so only the upgrade itself may start a gateway; the backup has the previous data. *restoring*: the backup is
partly restored. *done*: the new program and the new data are in use.
An upgrade that was killed is completed or rolled back by the next ``mosaic-gateway upgrade``.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Any

from mosaic_gateway.errors import RefusedError
from mosaic_gateway.fs.files import remove_file
from mosaic_gateway.fs.record_fields import (
    BACKUP_NAME,
    PROGRAM_NAME,
    VERSION,
    Field,
    boolean,
    matching,
    member,
    optional,
)
from mosaic_gateway.fs.record_format import LaterSchemaError, RecordFormat
from mosaic_gateway.hint import command
from mosaic_gateway.installation.home_lock import HomeBusyError
from mosaic_gateway.installation.layout import Home
from mosaic_gateway.process.file_lock import holder_of

__all__ = [
    "CONTINUE",
    "Phase",
    "UpgradeMark",
    "UpgradeUnfinishedError",
    "check_may_start",
    "mark_file",
    "read_mark",
    "refuse_beside_upgrade",
    "remove_mark",
    "unfinished_error",
    "write_mark",
]

VERB = "upgrade"
CONTINUE = "Continue it: " + command("upgrade") + ". Roll it back: " + command("upgrade", "--abort")


class UpgradeUnfinishedError(RefusedError):
    """An upgrade was not completed, and the data may be between two versions."""

    code = "UPGRADE_UNFINISHED"


class Phase(StrEnum):
    """The phase of an upgrade; see the module docstring."""

    PREPARED = "prepared"
    CHANGING = "changing"
    RESTORING = "restoring"
    DONE = "done"


@dataclass(frozen=True, slots=True, kw_only=True)
class UpgradeMark:
    """The state of an upgrade from one program copy to another.

    ``source_program`` and ``target_program`` are names of program copies (None: the home had none). ``ran``: a gateway
    was running when the upgrade began; ``needs_setup`` is what it reported (None: unknown). ``backup`` is the name of
    the backup of data, secrets and settings, None if there is none (yet).
    """

    phase: Phase
    source_version: str
    source_program: str | None
    target_version: str
    target_program: str
    ran: bool
    needs_setup: bool | None = None
    backup: str | None = None
    extra: Mapping[str, Any] = field(default_factory=dict, compare=False)


class _UnknownPhaseError(Exception):
    """A phase of another version."""


def _phase(value: Any) -> Phase:
    if isinstance(value, str) and value not in set(Phase):
        raise _UnknownPhaseError(value)
    found: Phase = member(Phase)(value)
    return found


_VERSION = matching(VERSION, "a version")
_PROGRAM = matching(PROGRAM_NAME, "the name of a program copy")
FIELDS = {
    "phase": Field(_phase),
    "source_version": Field(_VERSION),
    "source_program": Field(optional(_PROGRAM)),
    "target_version": Field(_VERSION),
    "target_program": Field(_PROGRAM),
    "ran": Field(boolean),
    "needs_setup": Field(optional(boolean), None),
    "backup": Field(optional(matching(BACKUP_NAME, "the name of a backup")), None),
}
HINT = "Nothing was changed. The file records the phase of an upgrade: restore it from a backup."
FORMAT = RecordFormat(fields=FIELDS, unnumbered=True, hint=HINT)


def mark_file(home: Home) -> Path:
    """Return the path of the file that records the upgrade of *home*."""
    return home.path / "upgrade.json"


def read_mark(home: Home) -> UpgradeMark | None:
    """Return the state of the upgrade of *home*, None if no upgrade is in progress.

    Raises `UpgradeUnfinishedError` if another version wrote it in an unknown format, RecordError.
    """
    try:
        return UpgradeMark(**FORMAT.read(mark_file(home)))
    except (FileNotFoundError, NotADirectoryError):
        return None
    except (LaterSchemaError, _UnknownPhaseError) as error:
        raise UpgradeUnfinishedError(
            f"{mark_file(home)} has a format that this version does not support",
            hint="Another version wrote it. Run the upgrade with the newest version that was used on this home.",
        ) from error


def write_mark(home: Home, mark: UpgradeMark) -> None:
    """Write *mark* and flush it to disk. Raises OSError."""
    FORMAT.write(mark_file(home), asdict(mark))


def remove_mark(home: Home) -> None:
    """Record that no upgrade is in progress. Raises OSError."""
    remove_file(mark_file(home))


def unfinished_error(home: Home, mark: UpgradeMark) -> UpgradeUnfinishedError:
    """Return the error for the unfinished upgrade *mark*."""
    return UpgradeUnfinishedError(
        f"the upgrade of {home.path} from {mark.source_version} to {mark.target_version} was not completed",
        hint=CONTINUE,
        details={"phase": str(mark.phase), "from": mark.source_version, "to": mark.target_version},
    )


def refuse_beside_upgrade(home: Home) -> None:
    """Raise `HomeBusyError` if another process is upgrading *home*; that process starts the gateway itself."""
    holder = holder_of(home.lock)
    if holder is not None and holder.facts.get("verb") == VERB and holder.pid != os.getpid():
        raise HomeBusyError(
            f"{home.path} is being upgraded by process {holder.pid}, which starts the gateway",
            hint="Wait until the upgrade has ended.",
            details={"pid": holder.pid},
        )


def check_may_start(home: Home, *, upgrading: bool) -> None:
    """Raise `UpgradeUnfinishedError` if an unfinished upgrade forbids starting a gateway.

    *upgrading*: the caller was started by the upgrade, which is allowed while the upgrade holds the home lock.
    """
    mark = read_mark(home)
    if mark is None or mark.phase in {Phase.PREPARED, Phase.DONE}:
        return
    holder = holder_of(home.lock)
    upgrade_running = holder is not None and holder.facts.get("verb") == VERB
    if not (upgrading and upgrade_running):
        raise unfinished_error(home, mark)
