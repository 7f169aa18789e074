"""The journal of a verb's steps: which were begun, done and undone, one JSON object per line.

A verb that is killed leaves its journal. The next run learns from it what cannot be read from the machine, for
example whether a step had completed or had only been begun.
"""

from __future__ import annotations

import json
import os
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from mosaic_gateway import fs
from mosaic_gateway.fs.record_fields import (
    Field,
    checked_record,
    choice,
    read_content,
    record_errors_for,
    text,
    timestamp,
)
from mosaic_gateway.hint import command

__all__ = ["Journal"]

FIELDS = {
    "at": Field(timestamp),
    "verb": Field(text),
    "step": Field(text),
    "event": Field(choice("begin", "done", "undone")),
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
        with record_errors_for(self._path, hint=HINT):
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
            for line in read_content(self._path, hint=HINT).splitlines():
                with suppress(ValueError):
                    entry = fs.parse_json(line)
                    if isinstance(entry, dict):
                        entries.append(checked_record(self._path, entry, FIELDS, hint=HINT))
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
