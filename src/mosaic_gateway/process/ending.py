"""Ending a process that is not our child: one that holds a lock, or one whose identity was noted."""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from mosaic_gateway.errors import BusyError
from mosaic_gateway.process.identity import ProcessIdentity, is_running
from mosaic_gateway.process.lockfile import holder_of

__all__ = ["StopTimeoutError", "end_holder", "end_process"]

PAUSE = 0.02  # seconds


class StopTimeoutError(BusyError):
    """A process was asked to end and did not, within the time it was given."""

    code = "STOP_TIMEOUT"


def end_holder(lock: Path, *, timeout: float) -> int | None:
    """Ask the holder of *lock* to end (SIGTERM) and wait until the lock is free.

    Returns its pid, None where nobody holds the lock. Raises `StopTimeoutError` after *timeout* seconds.
    """
    deadline = time.monotonic() + timeout
    asked: int | None = None
    while (holder := holder_of(lock)) is not None:
        if holder.pid and holder.pid != asked and _signal_holder(lock, holder.pid):
            asked = holder.pid
        if time.monotonic() >= deadline:
            raise StopTimeoutError(
                f"process {holder.pid} still runs {timeout:g} s after it was asked to end",
                hint="Look at its log; end it by hand only if it hangs.",
                details={"pid": holder.pid},
            )
        time.sleep(PAUSE)
    return asked


def end_process(identity: ProcessIdentity, ways: Sequence[tuple[signal.Signals, float]]) -> bool:
    """Send *identity* each signal in turn and wait its number of seconds; return whether it has ended.

    Raises PermissionError for a process of another user.
    """
    for number, limit in ways:
        if not is_running(identity):
            return True
        with suppress(ProcessLookupError):
            os.kill(identity.pid, number)
        deadline = time.monotonic() + limit
        while is_running(identity) and time.monotonic() < deadline:
            time.sleep(PAUSE)
    return not is_running(identity)


def _signal_holder(lock: Path, pid: int) -> bool:
    """Send SIGTERM to *pid* if it holds *lock*; the process is pinned first, so that its pid cannot be reused."""
    if not sys.platform.startswith("linux"):
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGTERM)
        return True
    try:
        pinned = os.pidfd_open(pid)
    except ProcessLookupError:
        return False
    try:
        holder = holder_of(lock)
        if holder is None or holder.pid != pid:
            return False
        signal.pidfd_send_signal(pinned, signal.SIGTERM)
    except ProcessLookupError:
        return False
    finally:
        os.close(pinned)
    return True
