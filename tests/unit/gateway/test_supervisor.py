"""The supervisor of a gateway in the background."""

from __future__ import annotations

import signal
import warnings
from collections.abc import Iterator
from pathlib import Path

import pytest

from mosaic_gateway.gateway.control import supervisor
from mosaic_gateway.installation.layout import Home
from mosaic_gateway.process.file_lock import FileLock

RUNS = 3


@pytest.fixture(autouse=True)
def handlers() -> Iterator[None]:
    """Restore the signal handlers that a supervisor sets."""
    numbers = (signal.SIGTERM, signal.SIGINT, signal.SIGALRM)
    before = {number: signal.getsignal(number) for number in numbers}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.mark.parametrize("gone", [True, False])
def test_a_vanished_interpreter_is_logged_and_the_start_retried(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *, gone: bool
) -> None:
    """Each failed start is followed by another one; the log says why they fail."""
    home, pauses = Home(tmp_path), list[float]()
    home.run.mkdir()
    home.logs.mkdir()
    if gone:
        monkeypatch.setattr(supervisor, "LIBRARY", str(tmp_path / "os.py"))

    def sleep(running: supervisor.Supervisor, seconds: float) -> None:
        pauses.append(seconds)
        running._stopping = len(pauses) == RUNS

    monkeypatch.setattr(supervisor.Supervisor, "_sleep", sleep)
    monkeypatch.setattr(supervisor.Supervisor, "_was_ready", lambda _self: True)
    with FileLock(home.supervisor_lock) as lock, warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # Python 3.12: fork beside threads
        assert lock.acquire()
        running = supervisor.Supervisor(
            home, lock, lambda _words: 1, ready=None, go=None, tether=None, listener=None, issue_link=False
        )
        running.run()
        running._log.close()
    log = home.gateway_log.read_text()
    assert log.count("The gateway ended (exit code 1); starting it again") == RUNS == len(pauses)
    repair = f"Install mosaic-gateway with a current Python, then run its mosaic-gateway install --home {tmp_path}"
    assert log.count(f"does not exist. {repair}") == (RUNS if gone else 0)
