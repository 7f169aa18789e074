"""The launchd job (launchd.plist(5)). Pure.

launchd supports neither readiness notification nor sandboxing: readiness is read from the gateway itself, and the job
only sets the umask.
"""

from __future__ import annotations

import plistlib
from typing import Any

from mosaic_gateway_installer.service.unit_facts import UnitFacts, mark

__all__ = ["launchd_job"]

HEADER = '<?xml version="1.0" encoding="UTF-8"?>\n'


def launchd_job(facts: UnitFacts) -> str:
    """Return the property list; its marks are in a comment, one per line."""
    job: dict[str, Any] = {
        "Label": facts.service.name,
        "ProgramArguments": [str(facts.program), "serve", "--service", "--home", str(facts.home.path)],
        "WorkingDirectory": "/",
        "RunAtLoad": True,
        # Restart it after a failure, but not after a stop.
        "KeepAlive": {"SuccessfulExit": False},
        "ThrottleInterval": 5,
        "ExitTimeOut": 60,
        "Umask": 0o077,
        "ProcessType": "Background",
        "StandardOutPath": "/dev/null",
        # The gateway writes its own log file, which is rotated.
        "StandardErrorPath": "/dev/null",
    }
    if facts.account is not None:
        job["UserName"] = facts.account
    body = plistlib.dumps(job).decode().removeprefix(HEADER)
    marked = mark(f"-->\n{body}", facts.home, "If this file is edited, an install does not overwrite it.")
    return f"{HEADER}<!--\n{marked}"
