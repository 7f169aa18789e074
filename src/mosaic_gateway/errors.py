"""The one root error, its categories, and the exit codes that scripts may rely on.

Every layer derives its own errors from a category here, so that the exit code of a failure is a
property of its class and the command line never has to guess it.
"""

from __future__ import annotations

from enum import IntEnum
from typing import Any

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
    """Root of all errors that mosaic-gateway raises on purpose.

    ``message`` says what happened and where, ``hint`` what to do next, ``details`` carries
    JSON-serialisable facts for scripts. None of the three ever holds a secret.
    """

    code: str = "FAILED"
    exit_code: ExitCode = ExitCode.FAILED

    def __init__(self, message: str, *, hint: str = "", details: dict[str, Any] | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint
        self.details: dict[str, Any] = details or {}

    def to_dict(self) -> dict[str, Any]:
        """Return the ``error`` object of the JSON envelope: code, message, hint and details."""
        body: dict[str, Any] = {"code": self.code, "message": self.message, "hint": self.hint}
        if self.details:
            body["details"] = self.details
        return body


class InternalError(MosaicError):
    """Something that should not happen; the message names the place."""

    code = "INTERNAL"


class InterruptionError(MosaicError):
    """A signal or Ctrl-C ended the command before it was done."""

    code = "INTERRUPTED"
    exit_code = ExitCode.INTERRUPTED


class UsageError(MosaicError):
    """The call's arguments or the configuration make no sense together."""

    code = "USAGE"
    exit_code = ExitCode.USAGE


class PreflightError(MosaicError):
    """The machine is not ready for what was asked; nothing was changed."""

    code = "PREFLIGHT"
    exit_code = ExitCode.PREFLIGHT


class MigrationError(MosaicError):
    """The schema could not be brought up to date."""

    code = "MIGRATION_FAILED"
    exit_code = ExitCode.MIGRATION


class SmokeTestError(MosaicError):
    """The gateway runs but does not answer as it must."""

    code = "SMOKE_TEST_FAILED"
    exit_code = ExitCode.SMOKE_TEST


class BusyError(MosaicError):
    """Somebody else holds what is needed; the message names the holder."""

    code = "BUSY"
    exit_code = ExitCode.BUSY


class RefusedError(MosaicError):
    """Going on could lose or damage data; nothing was written."""

    code = "REFUSED"
    exit_code = ExitCode.REFUSED
