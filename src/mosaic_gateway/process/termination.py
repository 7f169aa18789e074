"""Ends a process that is not a child: the holder of a lock, or a process with a recorded identity."""

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

__all__ = ["ForeignProcessError", "StopTimeoutError", "end_holder", "end_process"]

PAUSE = 0.02  # seconds
#: Whether the kernel reports the holder of a flock; elsewhere the note in the lock file is used.
KERNEL_NAMES_HOLDER = sys.platform.startswith("linux")


class StopTimeoutError(BusyError):
    """A process did not exit within the timeout after SIGTERM."""

    code = "STOP_TIMEOUT"


class ForeignProcessError(RefusedError):
    """The process to end belongs to another user."""

    code = "FOREIGN_PROCESS"


def end_holder(lock: Path, *, timeout: float, end_as_root: Callable[[], object] | None = None) -> int | None:
    """Send SIGTERM to the holder of *lock* and wait until the lock is free. Return its pid, None if the lock was free.

    The holder is taken from the kernel, not from the file. If it belongs to another user, *end_as_root* is called.
    Raises `StopTimeoutError` after *timeout* seconds, and `ForeignProcessError` if the holder belongs to another
    user and there is no *end_as_root*.
    """
    deadline = time.monotonic() + timeout
    signalled: int | None = None
    while (holder := holder_of(lock)) is not None:
        pid = flock_holder(lock) if KERNEL_NAMES_HOLDER else holder.pid
        if pid and pid != signalled:
            try:
                signalled = pid if _signal_holder(lock, pid) else signalled
            except PermissionError:
                if end_as_root is None:
                    raise ForeignProcessError(
                        f"process {pid} holds {lock} and belongs to another user", hint="Run the command as root."
                    ) from None
                end_as_root()
                signalled = pid
        if time.monotonic() >= deadline:
            raise StopTimeoutError(
                f"process {pid or 'unknown'} is still running {timeout:g} s after SIGTERM",
                hint="Check its log; kill it only if it hangs.",
                details={"pid": pid},
            )
        time.sleep(PAUSE)
    return signalled


def end_process(identity: ProcessIdentity, signals: Sequence[tuple[signal.Signals, float]]) -> bool:
    """Send each signal in turn and wait up to its number of seconds; return whether the process has ended.

    Raises PermissionError for a process of another user.
    """
    for number, limit in signals:
        if not is_running(identity):
            return True
        with suppress(ProcessLookupError):
            os.kill(identity.pid, number)
        deadline = time.monotonic() + limit
        while is_running(identity) and time.monotonic() < deadline:
            time.sleep(PAUSE)
    return not is_running(identity)


def _signal_holder(lock: Path, pid: int) -> bool:
    """Send SIGTERM to *pid* if it holds *lock*. A pidfd is opened first, so that a reused pid is not signalled."""
    if not KERNEL_NAMES_HOLDER:
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGTERM)
        return True
    try:
        pidfd = os.pidfd_open(pid)
    except ProcessLookupError:
        return False
    try:
        if flock_holder(lock) != pid:
            return False
        signal.pidfd_send_signal(pidfd, signal.SIGTERM)
    except ProcessLookupError:
        return False
    finally:
        os.close(pidfd)
    return True
