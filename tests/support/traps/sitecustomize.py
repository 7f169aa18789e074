"""Sends a signal or raises an OSError at a chosen audit event of the installer, so that tests can reproduce faults.

``INSTALLER_TRAP`` is a JSON object. At the ``count``-th audit event ``event`` whose arguments contain ``text``, the
process sends itself the signal ``act``, or raises an OSError with the errno ``act`` in the call.
"""

from __future__ import annotations

import errno
import json
import os
import signal
import sys


def _set_trap(trap: dict[str, str]) -> None:
    remaining = int(trap.get("count", 1))

    def hook(event: str, arguments: tuple[object, ...]) -> None:
        nonlocal remaining
        if event != trap["event"] or remaining == 0 or trap.get("text", "") not in repr(arguments):
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
