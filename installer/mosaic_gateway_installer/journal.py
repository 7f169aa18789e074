"""The journal of the steps under way: what was begun, done and undone, one JSON object a line.

A verb that was killed leaves it behind; the next run reads from it what the dead one had begun, which
no probe of the machine could tell (whether a service account was there before us, say).
"""

from __future__ import annotations

import json
import os
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from mosaic_gateway.files import remove_file
from mosaic_gateway.process.account import Account, assume

__all__ = ["Journal"]


class Journal:
    """Appends to and reads one journal file, as *account*."""

    def __init__(self, path: Path, account: Account | None) -> None:
        self._path = path
        self._account = account

    def append(self, verb: str, step: str, event: str) -> None:
        """Note *event* (``begin``, ``done``, ``undone``) of *step*; on disk before the return. Raises OSError."""
        line = {"at": datetime.now(UTC).isoformat(timespec="seconds"), "verb": verb, "step": step, "event": event}
        with assume(self._account):
            descriptor = os.open(self._path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_NOFOLLOW, 0o600)
            with os.fdopen(descriptor, "ab", buffering=0) as stream:
                stream.write(json.dumps(line).encode() + b"\n")
                os.fsync(descriptor)

    def entries(self) -> list[dict[str, Any]]:
        """Return what a run that did not end left behind; a torn last line is passed over."""
        found: list[dict[str, Any]] = []
        with suppress(FileNotFoundError, NotADirectoryError):
            for line in self._path.read_bytes().splitlines():
                with suppress(ValueError):
                    entry = json.loads(line)
                    if isinstance(entry, dict):
                        found.append(entry)
        return found

    def was_begun(self, step: str) -> bool:
        """Return whether a run that did not end had begun *step* (and not undone it)."""
        events = [entry.get("event") for entry in self.entries() if entry.get("step") == step]
        return bool(events) and events[-1] != "undone"

    def was_done(self, step: str) -> bool:
        """Return whether a run that did not end had completed *step* (and not undone it)."""
        events = [entry.get("event") for entry in self.entries() if entry.get("step") == step]
        return bool(events) and events[-1] == "done"

    def was_ever_begun(self, step: str) -> bool:
        """Return whether a run that did not end had begun *step*, undone or not."""
        return any(entry.get("step") == step for entry in self.entries())

    def close(self) -> None:
        """Forget everything: the verb came to its end. Raises OSError."""
        with assume(self._account):
            remove_file(self._path)
