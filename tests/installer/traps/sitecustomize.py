"""Acts at a chosen moment of the installer's process, so that kills and faults hit the same place each time.

``INSTALLER_TRAP`` is a JSON object: at the ``count``-th audit event ``event`` whose arguments' text holds
``text``, ``act``: the name of a signal for ourselves, or of an errno for the call that raised the event.
"""

from __future__ import annotations

import errno
import json
import os
import signal
import sys


def _set_trap(trap: dict[str, str]) -> None:
    left = int(trap.get("count", 1))

    def hook(event: str, arguments: tuple[object, ...]) -> None:
        nonlocal left
        if event != trap["event"] or left == 0 or trap.get("text", "") not in repr(arguments):
            return
        left -= 1
        if left == 0:
            if trap["act"].startswith("SIG"):
                os.kill(os.getpid(), signal.Signals[trap["act"]])
            else:
                number = getattr(errno, trap["act"])
                raise OSError(number, os.strerror(number))

    sys.addaudithook(hook)


if "INSTALLER_TRAP" in os.environ and "mosaic_gateway_installer.cli" in sys.orig_argv:
    _set_trap(json.loads(os.environ["INSTALLER_TRAP"]))
