"""Identity of a process: its pid and its start time, because the system reuses pids.

No two processes of one boot share both (compare Patroni's ``postmaster.py``). On Linux the start time
is read from the boot clock, which cannot be set. A time since the epoch would change when the
machine's clock is corrected.
"""

from __future__ import annotations

import os
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mosaic_gateway.fs.record_fields import LARGEST_PID, Field, integer_between, nested, number

__all__ = ["ProcessIdentity", "identify", "is_running", "own_identity"]

FIELDS = {"pid": Field(integer_between(1, LARGEST_PID)), "started": Field(number)}

#: Two readings of a start time may differ by rounding to clock ticks; in seconds.
TOLERANCE = 0.05


@dataclass(frozen=True, slots=True)
class ProcessIdentity:
    """A process: its pid and its start time in seconds since boot (Linux) or since the epoch."""

    pid: int
    started: float

    def to_dict(self) -> dict[str, Any]:
        """Return the JSON form, as stored in pid files."""
        return {"pid": self.pid, "started": self.started}

    @classmethod
    def from_dict(cls, value: Any) -> ProcessIdentity | None:
        """Return the identity stored in a pid file, or None if *value* is not a valid one."""
        try:
            return cls(**nested(FIELDS)(value))
        except ValueError:
            return None


def own_identity() -> ProcessIdentity:
    """Return the identity of this process."""
    identity = identify(os.getpid())
    if identity is None:
        raise ProcessLookupError(os.getpid())
    return identity


def identify(pid: int) -> ProcessIdentity | None:
    """Return the identity of the process that has *pid* now, None if there is none or it is a zombie."""
    if not sys.platform.startswith("linux"):
        return _identify_elsewhere(pid)
    try:
        # proc(5). Field 2, the program's name, may contain any characters, including brackets.
        fields = Path(f"/proc/{pid}/stat").read_bytes().rpartition(b")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return None
    state, ticks = fields[0], int(fields[19])  # fields 3 and 22
    return None if state in {b"Z", b"X"} else ProcessIdentity(pid, ticks / os.sysconf("SC_CLK_TCK"))


def is_running(identity: ProcessIdentity | None) -> bool:
    """Return whether this process is still running; another process with the same pid does not count."""
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
