"""The values that a unit file is composed from, and the mark that identifies a generated file and its changes."""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from pathlib import Path

from mosaic_gateway.gateway.control import home_line
from mosaic_gateway.installation import Home, Service

__all__ = ["UnitFacts", "is_unchanged", "mark"]

MARK = re.compile(r"^# Written by mosaic-gateway, sha256 ([0-9a-f]{64})$", re.MULTILINE)


@dataclass(frozen=True, slots=True, kw_only=True)
class UnitFacts:
    """The values of a unit.

    ``program`` is the gateway's command, ``interpreter`` the Python that runs it, ``account`` the user of a system
    unit (None in a user unit). ``waits_for_network``: the database is on another machine. ``reads_homes``: programs
    that the gateway starts or loads are below home directories of users. ``privileged_port``: the port is below 1024.
    ``outside``: the directory of the database's socket, None if it is in the home.
    """

    service: Service
    home: Home
    program: Path
    interpreter: Path
    account: str | None
    waits_for_network: bool = False
    privileged_port: bool = False
    outside: Path | None = None
    reads_homes: bool = False


def mark(body: str, home: Home, advice: str) -> str:
    """Return *body* with a header: the SHA-256 of all following lines, the home, and *advice*."""
    rest = f"{home_line(home)}\n# {advice}\n{body}"
    return f"# Written by mosaic-gateway, sha256 {hashlib.sha256(rest.encode()).hexdigest()}\n{rest}"


def is_unchanged(text: str) -> bool:
    """Return whether *text* is a marked file that was not edited, written by this or another version."""
    match = MARK.search(text)
    return match is not None and hashlib.sha256(text[match.end() + 1 :].encode()).hexdigest() == match[1]
