"""Ending a process that is not our child: one that holds a lock, or one whose identity was noted."""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path

from mosaic_gateway.errors import BusyError, RefusedError
from mosaic_gateway.process.file_lock import flock_holder, holder_of
from mosaic_gateway.process.identity import ProcessIdentity, is_running

__all__ = ["OthersProcessError", "StopTimeoutError", "end_holder", "end_process"]

PAUSE = 0.02  # seconds
#: Whether the kernel tells who holds a flock; elsewhere the holder's own note has to do.
KERNEL_TELLS = sys.platform.startswith("linux")


class StopTimeoutError(BusyError):
    """A process was asked to end and did not, within the time it was given."""

    code = "STOP_TIMEOUT"


class OthersProcessError(RefusedError):
    """A process that should end belongs to another user."""

    code = "OTHERS_PROCESS"


def end_holder(lock: Path, *, timeout: float, end_roots: Callable[[], object] | None = None) -> int | None:
    """Ask the holder of *lock* to end (SIGTERM) and wait until the lock is free.

    Who that is says the kernel, and not the file. *end_roots* ends it where it is root's and we are not. Returns its
    pid, None where no process holds the lock. Raises `StopTimeoutError` after *timeout* seconds, and
    `OthersProcessError` where it is another user's.
    """
    deadline = time.monotonic() + timeout
    asked: int | None = None
    while (holder := holder_of(lock)) is not None:
        pid = flock_holder(lock) if KERNEL_TELLS else holder.pid
        if pid and pid != asked:
            try:
                asked = pid if _signal_holder(lock, pid) else asked
            except PermissionError:
                if end_roots is None:
                    raise OthersProcessError(
                        f"process {pid} holds {lock} and belongs to another user", hint="Run the command as root."
                    ) from None
                end_roots()
                asked = pid
        if time.monotonic() >= deadline:
            raise StopTimeoutError(
                f"process {pid or 'unknown'} still runs {timeout:g} s after it was asked to end",
                hint="Look at its log; end it by hand only if it hangs.",
                details={"pid": pid},
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
    if not KERNEL_TELLS:
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGTERM)
        return True
    try:
        pinned = os.pidfd_open(pid)
    except ProcessLookupError:
        return False
    try:
        if flock_holder(lock) != pid:
            return False
        signal.pidfd_send_signal(pinned, signal.SIGTERM)
    except ProcessLookupError:
        return False
    finally:
        os.close(pinned)
    return True
