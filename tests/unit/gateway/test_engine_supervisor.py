"""Start, restart and stop of an engine by the engine supervisor, with a fake engine."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

import pytest

from mosaic_gateway.engines.base import EngineReport, EngineStartError
from mosaic_gateway.gateway.run.engine_supervisor import EngineSupervisor
from mosaic_gateway.installation.engine_name import EngineName


class FakeEngine:
    """An engine that counts its starts; each start raises the next of *errors*, if any."""

    def __init__(self, *errors: BaseException | None) -> None:
        self.errors = list(errors)
        self.starts = 0
        self.up = False
        self.stopped = False
        self.threads: set[int] = set()

    @property
    def name(self) -> EngineName:
        """An arbitrary name."""
        return EngineName.POSTGRES

    def start(self) -> None:
        """Start, or raise the next error."""
        self.starts += 1
        self.threads.add(threading.get_ident())
        error = self.errors.pop(0) if self.errors else None
        if error is not None:
            raise error
        self.up = True

    def verify(self) -> EngineReport:
        """Unused."""
        raise NotImplementedError

    def conninfo(self) -> str:
        """Unused."""
        raise NotImplementedError

    def alive(self) -> bool:
        """Return whether it runs."""
        return self.up

    def stop(self) -> None:
        """Stop."""
        self.stopped = True
        self.up = False


class FakePreparableEngine(FakeEngine):
    """An engine whose start can be begun."""

    def begin(self) -> None:
        """Record the call."""
        self.up = True


def wait_until(condition: Callable[[], bool]) -> None:
    """Wait until *condition* is true, at most 10 s."""
    deadline = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.005)


def test_restart_in_one_thread() -> None:
    """A crashed engine is restarted by the thread that started it first, and stopped at the end."""
    engine = FakeEngine()
    supervisor = EngineSupervisor(engine)
    supervisor.start()
    assert engine.up
    engine.up = False
    wait_until(lambda: engine.up)
    supervisor.stop()
    assert (engine.starts, engine.stopped, len(engine.threads)) == (2, True, 1)
    assert threading.get_ident() not in engine.threads


@pytest.mark.parametrize("error", [EngineStartError("no"), PermissionError(13, "no"), ValueError("a bug")])
def test_failing_restarts(error: Exception) -> None:
    """A failed restart is retried, whatever its exception, as long as the gateway runs."""
    engine = FakeEngine(None, error, error)
    supervisor = EngineSupervisor(engine)
    supervisor.start()
    engine.up = False
    wait_until(lambda: engine.up)
    assert engine.starts == 4
    supervisor.stop()


def test_first_start_fails() -> None:
    """An error of the first start is raised by `start`, and the start is not retried."""
    engine = FakeEngine(EngineStartError("no"))
    supervisor = EngineSupervisor(engine)
    with pytest.raises(EngineStartError):
        supervisor.start()
    supervisor.stop()
    assert engine.starts == 1


def test_stop_without_start() -> None:
    """A supervisor that was never started can be stopped."""
    EngineSupervisor(FakeEngine()).stop()


def test_begin_then_stop_without_start() -> None:
    """`begin` begins a preparable engine only, and `stop` stops it without a `start` in between."""
    slow = FakePreparableEngine()
    supervisor = EngineSupervisor(slow)
    supervisor.begin()
    assert slow.up
    supervisor.stop()
    assert slow.stopped
    other = FakeEngine()
    EngineSupervisor(other).begin()
    assert not other.up
