"""What a unit file is written from, and the mark by which a file of ours is known, and known to be unchanged."""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from pathlib import Path

from mosaic_gateway.gateway.control.service import Service, home_line
from mosaic_gateway.installation.layout import Home

__all__ = ["UnitFacts", "is_unchanged", "mark"]

MARK = re.compile(r"^# Written by mosaic-gateway, sha256 ([0-9a-f]{64})$", re.MULTILINE)


@dataclass(frozen=True, slots=True, kw_only=True)
class UnitFacts:
    """What a unit says.

    ``program`` is the gateway's command, ``interpreter`` what runs it, ``account`` the user that a machine's unit runs
    as (None: a user's own). ``waits_for_network``: the database is elsewhere. ``reads_homes``: programs that it starts
    or loads lie where people's files are.
    ``privileged_port``: only root may listen there. ``outside``: the directory beyond the home where the database's
    socket is, None where it is in the home.
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


def mark(body: str, home: Home, hint: str) -> str:
    """Return *body* below the lines that say whose it is, and a hash of all that follows the first of them."""
    rest = f"{home_line(home)}\n# {hint}\n{body}"
    return f"# Written by mosaic-gateway, sha256 {hashlib.sha256(rest.encode()).hexdigest()}\n{rest}"


def is_unchanged(text: str) -> bool:
    """Return whether *text* is a marked file as it was written, by this version or another."""
    match = MARK.search(text)
    return match is not None and hashlib.sha256(text[match.end() + 1 :].encode()).hexdigest() == match[1]
