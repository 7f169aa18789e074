"""One sidecar process: what it says, and how it is ended.

Its standard input ends when we do, and so does it. On standard output it says, one JSON object a line, what becomes of
it; on standard error PGlite writes its log.
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

PATIENCE = 10.0  # seconds from the order to stop to the use of force
KILL_LIMIT = 5.0  # seconds
LAST_WORDS = 1.0  # seconds for what an ended one said to come through

Event = dict[str, Any]


class Sidecar(EngineProcess):
    """A sidecar that is our child."""

    def __init__(self, argv: Sequence[str | Path], *, log: Path, inherited: tuple[int, ...] = ()) -> None:
        """*log* is PGlite's log file; *inherited* are descriptors that the sidecar keeps open until it ends."""
        super().__init__(argv, name="pglite", log=log, orphan_signal=signal.SIGTERM, inherited=inherited, reports=True)
        self._changed = threading.Condition()
        self._events: list[Event] = []

    def hear(self, reports: IO[bytes]) -> None:
        """Keep the events of *reports*; what is none is passed over."""
        with reports:
            for line in reports:
                with suppress(ValueError):
                    event = json.loads(line)
                    if isinstance(event, dict) and "event" in event:
                        with self._changed:
                            self._events.append(event)
                            self._changed.notify_all()

    def has_ended(self) -> None:
        """Wake those who wait for an event."""
        with self._changed:
            self._changed.notify_all()

    def await_event(self, *names: str, limit: float) -> Event | None:
        """Return the first event of one of *names*, None if the sidecar ended or *limit* seconds passed without one."""
        with self._changed:
            self._changed.wait_for(lambda: self.event(*names) is not None or self.wait(0), limit)
            found = self.event(*names)
            if found is None and self.wait(0):  # its last words may still be in the pipe
                self._changed.wait_for(lambda: self.event(*names) is not None, LAST_WORDS)
                found = self.event(*names)
        return found

    def event(self, *names: str) -> Event | None:
        """Return the first event of one of *names* that came so far."""
        return next((event for event in self._events if event["event"] in names), None)

    def stop(self, patience: float = PATIENCE) -> None:
        """End it: cleanly within *patience* seconds, then by force (5 s more); harmless when it has ended."""
        self.end(((signal.SIGTERM, patience), (signal.SIGKILL, KILL_LIMIT)))
