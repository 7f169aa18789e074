"""The sidecar as a child process: its events, and its termination.

The sidecar exits on end of file on its standard input, which it gets when the parent exits. It writes events to
standard output, one JSON object a line; PGlite's log goes to standard error.
"""

from __future__ import annotations

import json
import signal
import threading
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import IO, Any

from mosaic_gateway.engines.engine_process import EngineProcess

__all__ = ["Sidecar"]

STOP_LIMIT = 10.0  # seconds from SIGTERM to SIGKILL
KILL_LIMIT = 5.0  # seconds
LAST_EVENTS_LIMIT = 1.0  # seconds to wait for events still in the pipe after the exit

Event = dict[str, Any]


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
