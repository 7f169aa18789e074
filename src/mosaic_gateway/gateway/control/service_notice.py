"""Notification of the service manager about readiness, failure and shutdown, and for its watchdog (sd_notify(3)).

The manager receives ``READY=1`` or an exit code only. The error of a failed start is also written into a file in the
home, so that the process that requested the start (`gateway_process.start`) can report it.

It restarts a gateway that no longer answers (sd_watchdog_enabled(3)): ``WATCHDOG=1`` is due every ``WATCHDOG_USEC``
microseconds. Each notification follows a successful HTTP request to /healthz, so a process that hangs sends none.
"""

from __future__ import annotations

import json
import logging
import re
import threading
from collections.abc import Mapping
from contextlib import suppress
from http import HTTPStatus
from pathlib import Path
from typing import Any

from mosaic_gateway.errors import ExitCode, MosaicError
from mosaic_gateway.fs.files import remove_file, write_file
from mosaic_gateway.fs.record_fields import Field, RecordError, any_text, mapping, matching, member, nested, read_record
from mosaic_gateway.gateway.control.ready_pipe import StartupFailedError
from mosaic_gateway.gateway.local_client import NoAnswerError, ask
from mosaic_gateway.hint import from_json
from mosaic_gateway.installation.layout import Home
from mosaic_gateway.process.logfile import RotatingFile
from mosaic_gateway.process.sd_notify import notify

__all__ = ["LogFileHandler", "ServiceNotice", "Watchdog", "forget_failure", "read_failure", "watchdog_limit"]

LOG = logging.getLogger(__name__)
#: Requests per limit, so that one slow response does not cause a restart.
TRIES = 3
ERROR = {
    "code": Field(matching(re.compile(r"[A-Z][A-Z0-9_]*"), "an error code")),
    "message": Field(any_text),
    "hint": Field(any_text, ""),
    "hint_parts": Field(from_json, ""),
    "details": Field(mapping(any_text, lambda value: value), {}),
}
FIELDS = {"error": Field(nested(ERROR)), "exit_code": Field(member(ExitCode))}


def watchdog_limit(environ: Mapping[str, str], pid: int) -> float | None:
    """Return the watchdog time-out of the process *pid* in seconds, None if it has none."""
    try:
        limit = int(environ["WATCHDOG_USEC"]) / 1_000_000
        is_meant = int(environ.get("WATCHDOG_PID", pid)) == pid
    except (KeyError, ValueError):
        return None
    return limit if is_meant and limit > 0 else None


class Watchdog:
    """Notifies *address* (``NOTIFY_SOCKET``) at least every *limit* seconds while the gateway at *url* answers."""

    def __init__(self, address: str | None, url: str, limit: float) -> None:
        self._address = address
        self._url = url
        self._pause = limit / TRIES
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="watchdog", daemon=True)

    def start(self) -> None:
        """Start the notifications."""
        self._thread.start()

    def stop(self) -> None:
        """Stop the notifications."""
        self._stopping.set()

    def _run(self) -> None:
        while not self._stopping.is_set():
            if self._answers():
                notify(self._address, WATCHDOG="1")
            self._stopping.wait(self._pause)

    def _answers(self) -> bool:
        try:
            return ask(self._url, "/healthz", timeout=self._pause)[0] == HTTPStatus.OK
        except NoAnswerError as error:
            if not self._stopping.is_set():
                LOG.warning("The gateway does not answer the watchdog: %s", error.message)
            return False


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
