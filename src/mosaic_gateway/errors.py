"""The base class of all errors, its categories, and the exit codes that scripts may rely on.

Every layer derives its errors from a category defined here, so that the class of an error determines
the exit code.
"""

from __future__ import annotations

from enum import IntEnum
from typing import Any

from mosaic_gateway.hint import Hint, Text, to_json

__all__ = [
    "BusyError",
    "ExitCode",
    "InternalError",
    "InterruptionError",
    "MigrationError",
    "MosaicError",
    "PreflightError",
    "RefusedError",
    "SmokeTestError",
    "UsageError",
]


class ExitCode(IntEnum):
    """Exit codes of every verb; part of the public contract."""

    DONE = 0
    FAILED = 1
    USAGE = 2
    PREFLIGHT = 3
    MIGRATION = 4
    SMOKE_TEST = 5
    BUSY = 6
    REFUSED = 7
    INTERRUPTED = 130


class MosaicError(Exception):
    """Base class of all errors that mosaic-gateway raises on purpose.

    ``message`` says what happened and where, ``hint`` what to do next; ``details`` has
    JSON-serialisable values for scripts. None of the three ever contains a secret.
    """

    code: str = "FAILED"
    exit_code: ExitCode = ExitCode.FAILED
    #: Status of the HTTP response if a request raised it; None: an internal error (500), reported without its message.
    http_status: int | None = None

    def __init__(self, message: Text, *, hint: Text = "", details: dict[str, Any] | None = None) -> None:
        super().__init__(str(message))
        self.message = str(message)
        self._text = message
        self.hint: Text = hint
        self.details: dict[str, Any] = details or {}

    @property
    def full_message(self) -> Text:
        """The message, and below it the notes that callers have added (`add_note`), one per line."""
        return self._text + "".join(f"\n{note}" for note in getattr(self, "__notes__", ()))

    def to_dict(self) -> dict[str, Any]:
        """Return code, message, hint and details; the hint and what contains hints is rendered by the receiver."""
        body: dict[str, Any] = {"code": self.code, "message": self.full_message, "hint": self.hint}
        if self.details:
            body["details"] = self.details
        return body

    def to_message(self) -> dict[str, Any]:
        """Return the form for another process: `to_dict` with the hint as text, and with commands as ``hint_parts``."""
        body = {**self.to_dict(), "message": str(self.full_message), "hint": str(self.hint)}
        return {**body, "hint_parts": to_json(self.hint)} if isinstance(self.hint, Hint) else body


class InternalError(MosaicError):
    """An unexpected error; the message says where it occurred."""

    code = "INTERNAL"


class InterruptionError(MosaicError):
    """A signal or Ctrl-C ended the command before it was complete."""

    code = "INTERRUPTED"
    exit_code = ExitCode.INTERRUPTED


class UsageError(MosaicError):
    """The arguments or the configuration are invalid or contradict each other."""

    code = "USAGE"
    exit_code = ExitCode.USAGE


class PreflightError(MosaicError):
    """The machine does not meet the requirements of the operation; nothing was changed."""

    code = "PREFLIGHT"
    exit_code = ExitCode.PREFLIGHT


class MigrationError(MosaicError):
    """The schema could not be brought up to date."""

    code = "MIGRATION_FAILED"
    exit_code = ExitCode.MIGRATION


class SmokeTestError(MosaicError):
    """The gateway is running but does not respond correctly."""

    code = "SMOKE_TEST_FAILED"
    exit_code = ExitCode.SMOKE_TEST


class BusyError(MosaicError):
    """Another process holds a lock or resource that is needed; the message names it."""

    code = "BUSY"
    exit_code = ExitCode.BUSY


class RefusedError(MosaicError):
    """Continuing could lose or damage data; nothing was written."""

    code = "REFUSED"
    exit_code = ExitCode.REFUSED
