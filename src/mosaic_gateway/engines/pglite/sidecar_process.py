"""The sidecar as a child process: its command line, its start until the database is open, its events, its end.

The sidecar exits on end of file on its standard input, which it gets when the parent exits. It writes events to
standard output, one JSON object a line; PGlite's log goes to standard error. This module does not import psycopg,
which is slow to load.
"""

from __future__ import annotations

import json
import os
import signal
import threading
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import IO, Any

from mosaic_gateway.engines.base import EngineStartError, UnfitAccountError
from mosaic_gateway.engines.engine_process import EngineProcess
from mosaic_gateway.engines.pglite.node import PackagesMissingError
from mosaic_gateway.engines.pglite.runtime import PgliteRuntime
from mosaic_gateway.hint import command

__all__ = ["Sidecar", "check_account", "failure", "open_sidecar", "sidecar_command"]

STOP_LIMIT = 10.0  # seconds from SIGTERM to SIGKILL
KILL_LIMIT = 5.0  # seconds
LAST_EVENTS_LIMIT = 1.0  # seconds to wait for events still in the pipe after the exit

Event = dict[str, Any]
START_LIMIT = 120.0  # seconds, including crash recovery
TAIL = 20  # lines of PGlite's log in an error


class Sidecar(EngineProcess):
    """A sidecar, started as a child process."""

    def __init__(self, argv: Sequence[str | Path], *, log: Path, inherited: tuple[int, ...] = ()) -> None:
        """*log* is PGlite's log file; the sidecar inherits the descriptors *inherited*."""
        super().__init__(argv, name="pglite", log=log, orphan_signal=signal.SIGTERM, inherited=inherited, reports=True)
        self._changed = threading.Condition()
        self._events: list[Event] = []

    def read_reports(self, reports: IO[bytes]) -> None:
        """Collect the events in *reports*; other lines are ignored."""
        with reports:
            for line in reports:
                with suppress(ValueError):
                    event = json.loads(line)
                    if isinstance(event, dict) and "event" in event:
                        with self._changed:
                            self._events.append(event)
                            self._changed.notify_all()

    def on_exit(self) -> None:
        """Wake the threads that wait for an event."""
        with self._changed:
            self._changed.notify_all()

    def await_event(self, *names: str, limit: float) -> Event | None:
        """Return the first event of one of *names*; None if the sidecar exits or *limit* seconds pass without one."""
        with self._changed:
            self._changed.wait_for(lambda: self.event(*names) is not None or self.wait(0), limit)
            event = self.event(*names)
            if event is None and self.wait(0):  # its last events may still be in the pipe
                self._changed.wait_for(lambda: self.event(*names) is not None, LAST_EVENTS_LIMIT)
                event = self.event(*names)
        return event

    def event(self, *names: str) -> Event | None:
        """Return the first event received so far of one of *names*, None if there is none."""
        return next((event for event in self._events if event["event"] in names), None)

    def stop(self, limit: float = STOP_LIMIT) -> None:
        """Send SIGTERM, and SIGKILL after *limit* seconds (then wait 5 s); does nothing once it has exited."""
        self.end(((signal.SIGTERM, limit), (signal.SIGKILL, KILL_LIMIT)))


def check_account() -> None:
    """Raise `UnfitAccountError` if the effective user is root."""
    if os.geteuid() == 0:
        raise UnfitAccountError(
            "PGlite must not run as root", hint="Name an existing service account with --run-as USER."
        )


def sidecar_command(
    runtime: PgliteRuntime, data: Path, socket: Path, *, lock: int | None = None, brief: bool = False
) -> list[str | Path]:
    """Return the command line of a sidecar; *brief* for a short-lived one."""
    words: list[str | Path] = [*runtime.node.command(brief=brief), runtime.script, "--modules", runtime.modules]
    words += ["--data", data, "--socket", socket]
    return words if lock is None else [*words, "--lock-fd", str(lock)]


def open_sidecar(sidecar: Sidecar, log: Path, *, limit: float = START_LIMIT) -> dict[str, Any]:
    """Wait until *sidecar* is ready and return its event ``ready``.

    Raises `PackagesMissingError`, `EngineStartError` with the end of PGlite's log; the sidecar is then stopped.
    """
    event = sidecar.await_event("ready", "failed", limit=limit)
    if event is not None and event["event"] == "ready":
        return event
    timed_out = event is None and sidecar.running()
    sidecar.stop()
    if event is not None and event.get("code") == "MODULES_MISSING":
        raise PackagesMissingError(
            f"PGlite's packages cannot be loaded: {event.get('message')}", hint="Run " + command("install") + " again."
        )
    if event is not None:
        why = f"{event.get('message')} ({event.get('code')})"
    else:
        why = f"it was not ready within {limit:.0f} s" if timed_out else sidecar.ending()
    raise failure(f"PGlite did not start: {why}", sidecar, log)


def failure(message: str, sidecar: Sidecar | None, log: Path) -> EngineStartError:
    """Return an error that ends with the tail of PGlite's log."""
    lines = sidecar.tail().splitlines()[-TAIL:] if sidecar is not None else []
    return EngineStartError("\n".join([message, *lines]), hint=f"The complete log: {log}", details={"log": str(log)})
