"""The last upgrade, as far as somebody may want to go back from it."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path

from mosaic_gateway.fs.files import remove_file, write_file
from mosaic_gateway.fs.record_fields import (
    BACKUP_NAME,
    PROGRAM_NAME,
    VERSION,
    Field,
    RecordError,
    any_text,
    digest,
    integer,
    mapping,
    matching,
    member,
    nested,
    optional,
    read_record,
    row,
    text,
)
from mosaic_gateway.installation.layout import Home
from mosaic_gateway_installer.upgrade.later_writes import DetectionMethod, WriteBaseline

__all__ = ["LastUpgrade", "forget_last", "last_file", "read_last", "write_last"]


@dataclass(frozen=True, slots=True, kw_only=True)
class LastUpgrade:
    """An upgrade that is complete: from which version and program, to which, and with which backup.

    ``written`` is of the moment before anybody used the upgraded database, None where it could not be read.
    """

    source_version: str
    source_program: str | None
    source_schema: str | None
    target_version: str
    backup: str | None
    written: WriteBaseline | None = None


_VERSION = matching(VERSION, "a version")
WRITTEN = {
    "means": Field(member(DetectionMethod)),
    "at": Field(text),
    "since": Field(text),
    "tables": Field(mapping(any_text, row(integer, integer, integer))),
}
FIELDS = {
    "source_version": Field(_VERSION),
    "source_program": Field(optional(matching(PROGRAM_NAME, "the name of a copy of the gateway"))),
    "source_schema": Field(optional(digest)),
    "target_version": Field(_VERSION),
    "backup": Field(optional(matching(BACKUP_NAME, "the name of a backup"))),
    "written": Field(optional(lambda value: WriteBaseline(**nested(WRITTEN)(value)))),
}


def last_file(home: Home) -> Path:
    """Return where *home* says what its last upgrade was."""
    return home.path / "last-upgrade.json"


def read_last(home: Home) -> LastUpgrade | None:
    """Return the last upgrade of *home*, None where there is none to go back from."""
    try:
        return LastUpgrade(**read_record(last_file(home), FIELDS))
    except (OSError, RecordError):
        return None


def write_last(home: Home, last: LastUpgrade) -> None:
    """Write *last*. Raises OSError."""
    write_file(last_file(home), json.dumps(asdict(last)) + "\n")


def forget_last(home: Home) -> None:
    """Say that there is nothing to go back from. Raises OSError."""
    remove_file(last_file(home))
