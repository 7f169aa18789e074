"""What a home says of an upgrade that is under way, for whoever might start a gateway meanwhile.

Theory of operation. ``upgrade.json`` is there from before the gateway is stopped until the upgrade has ended, and tells
how far it is. *prepared*: nothing of the data was changed, the old program may run. *changing*: the data may be half
way between two versions, so only the upgrade itself may start a gateway; the backup holds what was before. *restoring*:
parts of the backup are in their old places, others not yet. *done*: the new program and the new data are in force.
An upgrade that was killed is completed, or taken back, by the next ``mosaic-gateway upgrade``.
"""

from __future__ import annotations

import json
import os
from dataclasses import asdict, dataclass
from enum import StrEnum
from pathlib import Path

from mosaic_gateway.errors import BusyError, RefusedError
from mosaic_gateway.fs.files import remove_file, write_file
from mosaic_gateway.fs.record_fields import (
    BACKUP_NAME,
    PROGRAM_NAME,
    VERSION,
    Field,
    boolean,
    checked_record,
    matching,
    member,
    optional,
    read_object,
)
from mosaic_gateway.installation.layout import Home
from mosaic_gateway.process.file_lock import holder_of

__all__ = [
    "Phase",
    "UpgradeMark",
    "UpgradeUnfinishedError",
    "check_may_start",
    "mark_file",
    "read_mark",
    "refuse_beside_upgrade",
    "remove_mark",
    "unfinished",
    "write_mark",
]

VERB = "upgrade"


class UpgradeUnfinishedError(RefusedError):
    """An upgrade did not come to its end, and the data may be half way between two versions."""

    code = "UPGRADE_UNFINISHED"


class UpgradeAtWorkError(BusyError):
    """Another process upgrades the installation just now."""

    code = "HOME_BUSY"


class Phase(StrEnum):
    """How far an upgrade is; see above."""

    PREPARED = "prepared"
    CHANGING = "changing"
    RESTORING = "restoring"
    DONE = "done"


@dataclass(frozen=True, slots=True, kw_only=True)
class UpgradeMark:
    """An upgrade from one program to another.

    ``source_program`` and ``target_program`` are names of snapshots (None: the home had none). ``ran``: a gateway ran
    when it began, which said ``needs_setup`` (None: nobody asked it). ``backup`` is the name of the copy that was
    made of data, secrets and settings, None where none was (yet).
    """

    phase: Phase
    source_version: str
    source_program: str | None
    target_version: str
    target_program: str
    ran: bool
    needs_setup: bool | None = None
    backup: str | None = None


_VERSION = matching(VERSION, "a version")
_PROGRAM = matching(PROGRAM_NAME, "the name of a copy of the gateway")
FIELDS = {
    "phase": Field(member(Phase)),
    "source_version": Field(_VERSION),
    "source_program": Field(optional(_PROGRAM)),
    "target_version": Field(_VERSION),
    "target_program": Field(_PROGRAM),
    "ran": Field(boolean),
    "needs_setup": Field(optional(boolean), None),
    "backup": Field(optional(matching(BACKUP_NAME, "the name of a backup")), None),
}
HINT = "Nothing was changed. It says how far an upgrade was: restore the file from a backup."


def mark_file(home: Home) -> Path:
    """Return the file that says how far an upgrade of *home* is."""
    return home.path / "upgrade.json"


def read_mark(home: Home) -> UpgradeMark | None:
    """Return what *home* says, None where no upgrade is under way.

    Raises `UpgradeUnfinishedError` where another version wrote it in a form of its own, RecordError.
    """
    file = mark_file(home)
    try:
        value = read_object(file, hint=HINT)
    except (FileNotFoundError, NotADirectoryError):
        return None
    phase = value.get("phase")
    if set(value) - set(FIELDS) or (isinstance(phase, str) and phase not in set(Phase)):
        raise UpgradeUnfinishedError(
            f"{file} has a form that this version does not know",
            hint="It was written by another version. Run the upgrade of the newest version that was used here.",
        )
    return UpgradeMark(**checked_record(file, value, FIELDS, hint=HINT))


def write_mark(home: Home, mark: UpgradeMark) -> None:
    """Write *mark*; it is on disk before the return. Raises OSError."""
    write_file(mark_file(home), json.dumps(asdict(mark)) + "\n")


def remove_mark(home: Home) -> None:
    """Say that no upgrade is under way any more. Raises OSError."""
    remove_file(mark_file(home))


def unfinished(home: Home, mark: UpgradeMark) -> UpgradeUnfinishedError:
    """Return the error that *mark* is the reason of."""
    return UpgradeUnfinishedError(
        f"the upgrade of {home.path} from {mark.source_version} to {mark.target_version} did not come to its end",
        hint="Let it go on: mosaic-gateway upgrade. To go back to what was before: mosaic-gateway upgrade --abort",
        details={"phase": str(mark.phase), "from": mark.source_version, "to": mark.target_version},
    )


def refuse_beside_upgrade(home: Home) -> None:
    """Raise `UpgradeAtWorkError` while another process upgrades *home*: it starts the gateway itself."""
    holder = holder_of(home.lock)
    if holder is not None and holder.facts.get("verb") == VERB and holder.pid != os.getpid():
        raise UpgradeAtWorkError(
            f"{home.path} is being upgraded by process {holder.pid}, which starts the gateway",
            hint="Wait until it ends.",
            details={"pid": holder.pid},
        )


def check_may_start(home: Home, *, upgrading: bool) -> None:
    """Raise `UpgradeUnfinishedError` where no gateway may be started on the data as it is.

    *upgrading*: the upgrade at work starts it, and is still there.
    """
    mark = read_mark(home)
    if mark is None or mark.phase in {Phase.PREPARED, Phase.DONE}:
        return
    holder = holder_of(home.lock)
    at_work = holder is not None and holder.facts.get("verb") == VERB
    if not (upgrading and at_work):
        raise unfinished(home, mark)
