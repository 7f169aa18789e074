"""Ending a process that we know only by the lock it holds."""

from __future__ import annotations

import os
import signal
import sys
import time
from contextlib import suppress
from pathlib import Path

from mosaic_gateway.errors import BusyError
from mosaic_gateway.process.lockfile import holder_of

__all__ = ["StopTimeoutError", "end_holder"]

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
