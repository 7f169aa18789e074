"""Sends a signal or raises an OSError at a point of the installer's run, so that tests can reproduce faults.

``INSTALLER_TRAP`` is what `kill_points.trap_at` returns, as JSON. When the process reaches the point for the
``count``-th time, it sends itself the signal ``act``, or raises an OSError with the errno ``act`` in the call.
"""

from __future__ import annotations

import errno
import json
import os
import signal
import sys
from typing import Any


def _set_trap(trap: dict[str, Any]) -> None:
    from kill_points import POINTS  # type: ignore[import-not-found]  # noqa: PLC0415 - only for the process of the trap

    awaited, matches = POINTS[trap["point"]]
    remaining = int(trap["count"])

    def hook(event: str, arguments: tuple[object, ...]) -> None:
        nonlocal remaining
        if event != awaited or remaining == 0 or not matches(arguments, **trap["narrowed"]):
            return
        remaining -= 1
        if remaining == 0:
            if trap["act"].startswith("SIG"):
                os.kill(os.getpid(), signal.Signals[trap["act"]])
            else:
                number = getattr(errno, trap["act"])
                raise OSError(number, os.strerror(number))

    sys.addaudithook(hook)


if "INSTALLER_TRAP" in os.environ and "mosaic_gateway_installer.cli" in sys.orig_argv:
    _set_trap(json.loads(os.environ["INSTALLER_TRAP"]))
