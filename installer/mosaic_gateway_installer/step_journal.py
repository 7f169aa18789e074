"""The journal of the steps under way: what was begun, done and undone, one JSON object a line.

A verb that was killed leaves it behind; the next run reads from it what the dead one had begun, which
no probe of the machine could tell (whether a directory was there before, say).
"""

from __future__ import annotations

import json
import os
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from mosaic_gateway.fs.files import open_descriptor, parse_json, remove_file
from mosaic_gateway.fs.record_fields import Field, checked_record, choice, moment, naming_the_file, read_content, text

__all__ = ["Journal"]

FIELDS = {
    "at": Field(moment),
    "verb": Field(text),
    "step": Field(text),
    "event": Field(choice("begin", "done", "undone")),
}
HINT = "It notes what a command that was killed had begun. Remove it, then run mosaic-gateway install."


class Journal:
    """Appends to and reads one journal file."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def append(self, verb: str, step: str, event: str) -> None:
        """Note *event* (``begin``, ``done``, ``undone``) of *step*; on disk before the return.

        Raises OSError, and RecordError where no file of ours lies in its place.
        """
        line = {"at": datetime.now(UTC).isoformat(timespec="seconds"), "verb": verb, "step": step, "event": event}
        with naming_the_file(self._path, hint=HINT):
            descriptor = open_descriptor(self._path, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
        with os.fdopen(descriptor, "ab", buffering=0) as stream:
            stream.write(json.dumps(line).encode() + b"\n")
            os.fsync(descriptor)

    def entries(self) -> list[dict[str, Any]]:
        """Return what a run that did not end left behind.

        What a kill or a full disk tore, and is no JSON object, is passed over. Raises RecordError.
        """
        found: list[dict[str, Any]] = []
        with suppress(FileNotFoundError, NotADirectoryError):
            for line in read_content(self._path, hint=HINT).splitlines():
                with suppress(ValueError):
                    entry = parse_json(line)
                    if isinstance(entry, dict):
                        found.append(checked_record(self._path, entry, FIELDS, hint=HINT))
        return found

    def was_done(self, step: str) -> bool:
        """Return whether a run that did not end had completed *step* (and not undone it)."""
        events = [entry.get("event") for entry in self.entries() if entry.get("step") == step]
        return bool(events) and events[-1] == "done"

    def was_ever_started(self, step: str) -> bool:
        """Return whether a run that did not end had begun *step*, undone or not."""
        return any(entry.get("step") == step for entry in self.entries())

    def close(self) -> None:
        """Forget everything: the verb came to its end. Raises OSError."""
        remove_file(self._path)
