"""Who is this pid? A pid alone is a number that the system gives away again.

The start time makes it a name: no two processes of one boot share both (compare Patroni's
``postmaster.py``). On Linux it comes from the boot clock, which nobody sets: a time since the epoch is
derived by the system anew for each reader, and moves when the machine's clock is corrected.
"""

from __future__ import annotations

import os
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mosaic_gateway.fs.record_fields import LARGEST_PID, Field, nested, number, whole

__all__ = ["ProcessIdentity", "identify", "is_running", "myself"]

FIELDS = {"pid": Field(whole(1, LARGEST_PID)), "started": Field(number)}

#: Two readings of one process's start time may differ by rounding (clock ticks), in seconds.
TOLERANCE = 0.05


@dataclass(frozen=True, slots=True)
class ProcessIdentity:
    """A process for certain: its pid and its start time in seconds, since the boot (Linux) or the epoch."""

    pid: int
    started: float

    def to_dict(self) -> dict[str, Any]:
        """Return the JSON form, as kept in pid files."""
        return {"pid": self.pid, "started": self.started}

    @classmethod
    def from_dict(cls, value: Any) -> ProcessIdentity | None:
        """Return the identity that a pid file holds, or None where it holds none."""
        try:
            return cls(**nested(FIELDS)(value))
        except ValueError:
            return None


def myself() -> ProcessIdentity:
    """Return the identity of this process."""
    found = identify(os.getpid())
    if found is None:
        raise ProcessLookupError(os.getpid())
    return found


def identify(pid: int) -> ProcessIdentity | None:
    """Return the identity of the process that has *pid* now, or None: gone, or a zombie."""
    if not sys.platform.startswith("linux"):
        return _identify_elsewhere(pid)
    try:
        # proc(5). Field 2, the program's name, may hold anything, closing brackets included.
        fields = Path(f"/proc/{pid}/stat").read_bytes().rpartition(b")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return None
    state, ticks = fields[0], int(fields[19])  # fields 3 and 22
    return None if state in {b"Z", b"X"} else ProcessIdentity(pid, ticks / os.sysconf("SC_CLK_TCK"))


def is_running(identity: ProcessIdentity | None) -> bool:
    """Return whether exactly this process still runs (not another one with its pid)."""
    if identity is None:
        return False
    now = identify(identity.pid)
    return now is not None and abs(now.started - identity.started) < TOLERANCE


def _identify_elsewhere(pid: int) -> ProcessIdentity | None:
    import psutil  # noqa: PLC0415 - costs 25 ms of start-up, needed by few verbs

    try:
        process = psutil.Process(pid)
        return None if process.status() == psutil.STATUS_ZOMBIE else ProcessIdentity(pid, process.create_time())
    except psutil.NoSuchProcess:
        return None
