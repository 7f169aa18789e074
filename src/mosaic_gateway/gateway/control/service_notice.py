"""Notification of the service manager about readiness, failure and shutdown (sd_notify(3)).

The manager receives ``READY=1`` or an exit code only. The error of a failed start is also written into a file in the
home, so that the process that requested the start (`gateway_process.start`) can report it.
"""

from __future__ import annotations

import json
import logging
import re
from contextlib import suppress
from pathlib import Path
from typing import Any

from mosaic_gateway.errors import ExitCode, MosaicError
from mosaic_gateway.fs.files import remove_file, write_file
from mosaic_gateway.fs.record_fields import Field, RecordError, any_text, mapping, matching, member, nested, read_record
from mosaic_gateway.gateway.control.ready_pipe import StartupFailedError
from mosaic_gateway.gateway.control.watchdog import Watchdog
from mosaic_gateway.hint import from_json
from mosaic_gateway.installation.layout import Home
from mosaic_gateway.process.logfile import RotatingFile
from mosaic_gateway.process.notify import notify

__all__ = ["LogFileHandler", "ServiceNotice", "forget_failure", "read_failure"]

LOG = logging.getLogger(__name__)
ERROR = {
    "code": Field(matching(re.compile(r"[A-Z][A-Z0-9_]*"), "an error code")),
    "message": Field(any_text),
    "hint": Field(any_text, ""),
    "hint_parts": Field(from_json, ""),
    "details": Field(mapping(any_text, lambda value: value), {}),
}
FIELDS = {"error": Field(nested(ERROR)), "exit_code": Field(member(ExitCode))}


class ServiceNotice:
    """Reports the state of this gateway to the service manager that started it.

    *address* is its ``NOTIFY_SOCKET``, *limit* its watchdog time-out in seconds (None: no watchdog).
    """

    def __init__(self, home: Home, address: str | None, limit: float | None = None) -> None:
        self._home = home
        self._address = address
        self._limit = limit
        self._watchdog: Watchdog | None = None

    def ready(self, **facts: Any) -> None:
        """Report that requests are accepted, and start the watchdog."""
        notify(self._address, READY="1", STATUS=f"Listening on {facts.get('url')}")
        if self._limit is not None:
            self._watchdog = Watchdog(self._address, str(facts["local_url"]), self._limit)
            self._watchdog.start()

    def failed(self, error: MosaicError) -> None:
        """Report why the start failed."""
        LOG.error("The gateway failed to start [%s]: %s", error.code, error.message)
        notify(self._address, STATUS=f"[{error.code}] {error.message}")
        with suppress(OSError):
            failure = {"error": error.to_message(), "exit_code": error.exit_code}
            write_file(_failure_file(self._home), json.dumps(failure, default=str))

    def stopping(self) -> None:
        """Report that the shutdown has begun."""
        if self._watchdog is not None:
            self._watchdog.stop()
        notify(self._address, STOPPING="1", STATUS="Stopping")


class LogFileHandler(logging.Handler):
    """Writes the log of this process into the home's rotated file; on a full disk, lines are lost."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self._file = RotatingFile(path)

    def emit(self, record: logging.LogRecord) -> None:
        """Append *record*; the caller (`logging`) holds the handler's lock."""
        with suppress(OSError):
            self._file.write(self.format(record).encode() + b"\n")

    def close(self) -> None:
        """Close the file."""
        self._file.close()
        super().close()


def read_failure(home: Home) -> StartupFailedError | None:
    """Return the error of the last failed start under a service manager, None if none was recorded."""
    try:
        return StartupFailedError(**read_record(_failure_file(home), FIELDS))
    except (OSError, RecordError):
        return None


def forget_failure(home: Home) -> None:
    """Remove the recorded error of an earlier start. Raises OSError."""
    remove_file(_failure_file(home))


def _failure_file(home: Home) -> Path:
    return home.run / "start-failure.json"
