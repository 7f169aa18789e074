"""The readiness line from a starting gateway to the process that started it.

The line goes through an inherited pipe: starter → supervisor → gateway. End of file without a line means
that the gateway exited without a report. Format: one JSON object,
``{"ready": true, "url": …, "pid": …}`` or ``{"ready": false, "error": …, "exit_code": n}``, with the error as
`MosaicError.to_message` returns it.
"""

from __future__ import annotations

import json
import os
import select
import time
from contextlib import suppress
from typing import Any

from mosaic_gateway.errors import ExitCode, InternalError, MosaicError
from mosaic_gateway.hint import from_json

__all__ = ["SUPERVISOR_BUSY", "ReadyPipe", "StartupFailedError", "await_line"]

#: Error code of a supervisor that exits because another one holds the home's lock.
SUPERVISOR_BUSY = "SUPERVISOR_BUSY"


class StartupFailedError(MosaicError):
    """The gateway failed to start; code, hint and exit code are those of its own error."""

    def __init__(self, error: dict[str, Any], exit_code: int) -> None:
        hint = from_json(error.get("hint_parts") or str(error.get("hint", "")))
        super().__init__(str(error.get("message", "")), hint=hint, details=error.get("details"))
        self.code = str(error.get("code", "FAILED"))
        self.exit_code = ExitCode(exit_code)


class ReadyPipe:
    """The write end of the pipe, used by the gateway; without a descriptor it writes nothing."""

    def __init__(self, descriptor: int | None) -> None:
        self._descriptor = descriptor
        if descriptor is not None:
            os.set_inheritable(descriptor, False)  # noqa: FBT003 - the signature of os

    def ready(self, **facts: Any) -> None:
        """Report that requests are accepted."""
        self._send({"ready": True, "pid": os.getpid(), **facts})

    def failed(self, error: MosaicError) -> None:
        """Report why the start failed."""
        self._send({"ready": False, "error": error.to_message(), "exit_code": int(error.exit_code)})

    def stopping(self) -> None:
        """Do nothing: the pipe is closed by now."""

    def _send(self, line: dict[str, Any]) -> None:
        if self._descriptor is None:
            return
        with suppress(OSError):  # the starter may have exited
            os.write(self._descriptor, json.dumps(line, default=str).encode() + b"\n")
        os.close(self._descriptor)
        self._descriptor = None


def await_line(descriptor: int, timeout: float) -> dict[str, Any] | None:
    """Return the line of a gateway that is ready, None if it exited without a complete line.

    Raises `StartupFailedError` with the gateway's error, TimeoutError after *timeout* seconds.
    """
    deadline = time.monotonic() + timeout
    received = b""
    while not received.endswith(b"\n"):
        readable, _, _ = select.select([descriptor], [], [], max(0.0, deadline - time.monotonic()))
        if not readable:
            raise TimeoutError
        chunk = os.read(descriptor, 65536)
        if not chunk:
            return None
        received += chunk
    line = json.loads(received)
    if not isinstance(line, dict):
        raise InternalError("the readiness line of the gateway is not a JSON object")
    if not line.get("ready"):
        raise StartupFailedError(line["error"], line["exit_code"])
    return line
