"""The launchd job (launchd.plist(5)). Pure.

launchd knows neither readiness nor confinement; the gateway is asked for the one, and the umask is all of the other.
"""

from __future__ import annotations

import plistlib
from typing import Any

from mosaic_gateway_installer.service.unit_facts import UnitFacts, mark

__all__ = ["launchd_job"]

HEADER = '<?xml version="1.0" encoding="UTF-8"?>\n'


def launchd_job(facts: UnitFacts) -> str:
    """Return the property list; the marks stand in a comment, one a line."""
    job: dict[str, Any] = {
        "Label": facts.service.name,
        "ProgramArguments": [str(facts.program), "serve", "--service", "--home", str(facts.home.path)],
        "WorkingDirectory": "/",
        "RunAtLoad": True,
        # Started again when it fails, but not after a stop.
        "KeepAlive": {"SuccessfulExit": False},
        "ThrottleInterval": 5,
        "ExitTimeOut": 60,
        "Umask": 0o077,
        "ProcessType": "Background",
        "StandardOutPath": "/dev/null",
        # The log has a file of its own, which is rotated.
        "StandardErrorPath": "/dev/null",
    }
    if facts.account is not None:
        job["UserName"] = facts.account
    body = plistlib.dumps(job).decode().removeprefix(HEADER)
    marked = mark(f"-->\n{body}", facts.home, "Changes are kept as long as the file is not marked as unchanged.")
    return f"{HEADER}<!--\n{marked}"
