"""How a gateway under a service manager says that it is ready, or why it is not.

A service manager learns of ``READY=1`` and of an exit code. The reason of a failed start goes into a file in the
home as well, so that whoever asked for the start (`control.start`) can give it as the gateway itself would.
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
from mosaic_gateway.installation.layout import Home
from mosaic_gateway.process.logfile import RotatingFile
from mosaic_gateway.process.notify import notify

__all__ = ["LogFileHandler", "ServiceNotice", "forget_failure", "read_failure"]

LOG = logging.getLogger(__name__)
ERROR = {
    "code": Field(matching(re.compile(r"[A-Z][A-Z0-9_]*"), "an error code")),
    "message": Field(any_text),
    "hint": Field(any_text, ""),
    "details": Field(mapping(any_text, lambda value: value), {}),
}
FIELDS = {"error": Field(nested(ERROR)), "exit_code": Field(member(ExitCode))}


class ServiceNotice:
    """Announces a gateway to the service manager that started it.

    *address* is its ``NOTIFY_SOCKET``, *limit* the seconds within which it wants to hear from us (None: it does not).
    """

    def __init__(self, home: Home, address: str | None, limit: float | None = None) -> None:
        self._home = home
        self._address = address
        self._limit = limit
        self._watchdog: Watchdog | None = None

    def ready(self, **facts: Any) -> None:
        """Say that requests are accepted."""
        notify(self._address, READY="1", STATUS=f"Listening on {facts.get('url')}")
        if self._limit is not None:
            self._watchdog = Watchdog(self._address, str(facts["local_url"]), self._limit)
            self._watchdog.start()

    def failed(self, error: MosaicError) -> None:
        """Say why the start failed."""
        LOG.error("The gateway could not start [%s]: %s", error.code, error.message)
        notify(self._address, STATUS=f"[{error.code}] {error.message}")
        with suppress(OSError):
            write_file(_failure_file(self._home), json.dumps({"error": error.to_dict(), "exit_code": error.exit_code}))

    def stopping(self) -> None:
        """Say that the end has begun."""
        if self._watchdog is not None:
            self._watchdog.stop()
        notify(self._address, STOPPING="1", STATUS="Stopping")


class LogFileHandler(logging.Handler):
    """Writes a process's own log into the home's rotated file; a full disk loses lines, never the process."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self._file = RotatingFile(path)

    def emit(self, record: logging.LogRecord) -> None:
        """Append *record*; `logging` holds the handler's lock."""
        with suppress(OSError):
            self._file.write(self.format(record).encode() + b"\n")

    def close(self) -> None:
        """Close the file."""
        self._file.close()
        super().close()


def read_failure(home: Home) -> StartupFailedError | None:
    """Return why the last start under a service manager failed, None where it did not say."""
    try:
        return StartupFailedError(**read_record(_failure_file(home), FIELDS))
    except (OSError, RecordError):
        return None


def forget_failure(home: Home) -> None:
    """Remove what an earlier start said. Raises OSError."""
    remove_file(_failure_file(home))


def _failure_file(home: Home) -> Path:
    return home.run / "start-failure.json"
