"""The record of the last completed upgrade, which ``upgrade --revert`` needs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from mosaic_gateway import fs
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
    row,
    text,
)
from mosaic_gateway.installation import Home
from mosaic_gateway_installer.upgrade.later_writes import DetectionMethod, WriteBaseline

__all__ = ["LastUpgrade", "last_file", "read_last", "remove_last", "write_last"]


@dataclass(frozen=True, slots=True, kw_only=True)
class LastUpgrade:
    """A completed upgrade: the versions and program before and after it, and its backup.

    ``written`` are the write counts before the upgraded database was first used, None if they could not be read.
    """

    source_version: str
    source_program: str | None
    source_schema: str | None
    target_version: str
    backup: str | None
    written: WriteBaseline | None = None
    extra: Mapping[str, Any] = field(default_factory=dict, compare=False)


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

FORMAT = fs.RecordFormat(fields=FIELDS)


def last_file(home: Home) -> Path:
    """Return the file in *home* that records the last upgrade."""
    return home.path / "last-upgrade.json"


def read_last(home: Home) -> LastUpgrade | None:
    """Return the last upgrade of *home*, None if there is none to revert or its record cannot be read."""
    try:
        return LastUpgrade(**FORMAT.read(last_file(home)))
    except (OSError, RecordError):
        return None


def write_last(home: Home, last: LastUpgrade) -> None:
    """Write *last*. Raises OSError."""
    FORMAT.write(last_file(home), asdict(last))


def remove_last(home: Home) -> None:
    """Remove the record, so that there is no upgrade to revert. Raises OSError."""
    fs.remove_file(last_file(home))
