"""The keeper holds an engine up, whatever its start may raise."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

import pytest

from mosaic_gateway.engines.base import EngineReport, EngineStartError
from mosaic_gateway.gateway.run.engine_supervisor import EngineSupervisor
from mosaic_gateway.installation.engine_name import EngineName


class FakeEngine:
    """Counts its starts and fails those whose error is given."""

    def __init__(self, *errors: BaseException | None) -> None:
        self.errors = list(errors)
        self.starts = 0
        self.up = False
        self.stopped = False
        self.threads: set[int] = set()

    @property
    def name(self) -> EngineName:
        """Any name."""
        return EngineName.POSTGRES

    def start(self) -> None:
        """Come up, or raise the next error."""
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
        """Tell whether it is up."""
        return self.up

    def stop(self) -> None:
        """Go down."""
        self.stopped = True
        self.up = False


class FakeSlowStarter(FakeEngine):
    """Can be begun."""

    def begin(self) -> None:
        """Note that."""
        self.up = True


def wait_until(condition: Callable[[], bool]) -> None:
    """Wait until *condition* holds, at most 10 s."""
    deadline = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.005)


def test_restart_in_one_thread() -> None:
    """An engine that died is started again, by the thread that started it first, and stopped at the end."""
    engine = FakeEngine()
    supervisor = EngineSupervisor(engine)
    supervisor.start()
    assert engine.up
    engine.up = False
    wait_until(lambda: engine.up)
    supervisor.stop()
    assert (engine.starts, engine.stopped, len(engine.threads)) == (2, True, 1)
    assert threading.get_ident() not in engine.threads


@pytest.mark.parametrize("error", [EngineStartError("no"), PermissionError(13, "no"), ValueError("a fault of ours")])
def test_failing_restarts(error: Exception) -> None:
    """A start that fails, in whatever way, is tried again as long as the gateway runs."""
    engine = FakeEngine(None, error, error)
    supervisor = EngineSupervisor(engine)
    supervisor.start()
    engine.up = False
    wait_until(lambda: engine.up)
    assert engine.starts == 4
    supervisor.stop()


def test_first_start_fails() -> None:
    """An error of the first start comes out where the keeper was started, and nothing goes on."""
    engine = FakeEngine(EngineStartError("no"))
    supervisor = EngineSupervisor(engine)
    with pytest.raises(EngineStartError):
        supervisor.start()
    supervisor.stop()
    assert engine.starts == 1


def test_stop_without_start() -> None:
    """A keeper that never started is stopped without harm."""
    EngineSupervisor(FakeEngine()).stop()


def test_what_was_begun_is_stopped_though_it_never_started() -> None:
    """An engine that takes long is begun, others are not; and it is stopped without a start in between."""
    slow = FakeSlowStarter()
    supervisor = EngineSupervisor(slow)
    supervisor.begin()
    assert slow.up
    supervisor.stop()
    assert slow.stopped
    other = FakeEngine()
    EngineSupervisor(other).begin()
    assert not other.up
