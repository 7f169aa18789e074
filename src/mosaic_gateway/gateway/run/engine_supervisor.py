"""Start, monitoring and restart of the database engine under a gateway.

All of it runs in one dedicated thread that lives as long as the gateway, because the kernel signals the
database server when the *thread* that started it exits (``process.command.die_with_parent``).
"""

from __future__ import annotations

import logging
import threading
from typing import Protocol, runtime_checkable

from mosaic_gateway.engines.base import Engine
from mosaic_gateway.errors import MosaicError

__all__ = ["EngineSupervisor", "PreparableEngine"]

LOG = logging.getLogger(__name__)
WATCH_INTERVAL = 0.1  # seconds
FIRST_PAUSE = 0.5  # seconds; doubles with each failure
LONGEST_PAUSE = 10.0  # seconds between two attempts to start


@runtime_checkable
class PreparableEngine(Protocol):
    """An engine whose slow start can go on while this process does other work."""

    def begin(self) -> None:
        """Begin the start without waiting, from any thread; ``start`` completes it, ``stop`` aborts it."""


class EngineSupervisor:
    """Keeps an engine running from `begin` or `start` until `stop`."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._stopping = threading.Event()
        self._started = threading.Event()
        self._failure: BaseException | None = None
        self._thread = threading.Thread(target=self._run, name="engine-supervisor", daemon=True)

    def begin(self) -> None:
        """Begin the start if the engine is a `PreparableEngine`. Raises what the engine raises."""
        if isinstance(self._engine, PreparableEngine):
            self._engine.begin()

    def start(self) -> None:
        """Start the engine and return when it accepts connections. Raises what the engine raises."""
        self._thread.start()
        self._started.wait()
        if self._failure is not None:
            self._thread.join()
            raise self._failure

    def stop(self) -> None:
        """Stop the engine; takes no longer than the engine's own time-outs."""
        self._stopping.set()
        if self._thread.ident is not None:
            self._thread.join()
        else:
            self._engine.stop()

    def _run(self) -> None:
        try:
            self._engine.start()
        except BaseException as error:  # noqa: BLE001 - raised in the thread that called start()
            self._failure = error
            return
        finally:
            self._started.set()
        try:
            self._watch()
        finally:
            self._engine.stop()

    def _watch(self) -> None:
        pause = WATCH_INTERVAL
        while not self._stopping.wait(pause):
            if self._engine.alive():
                pause = WATCH_INTERVAL
                continue
            LOG.error("The database server (%s) ended; starting it again", self._engine.name)
            try:
                self._engine.start()
            except Exception as error:  # the boundary: the start is retried as long as the gateway runs
                pause = min(max(pause * 2, FIRST_PAUSE), LONGEST_PAUSE)
                trace = None if isinstance(error, MosaicError | OSError) else error  # their messages suffice
                LOG.log(logging.ERROR, "The database server could not be started: %s", error, exc_info=trace)
            else:
                pause = WATCH_INTERVAL
                LOG.info("The database server (%s) runs again", self._engine.name)
