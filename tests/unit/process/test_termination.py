"""SIGTERM is sent to the holder of a lock only."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from mosaic_gateway.errors import ExitCode
from mosaic_gateway.process.termination import StopTimeoutError, end_holder

HOLD = (
    "import signal, sys, time; from pathlib import Path; from mosaic_gateway.process.file_lock import FileLock\n"
    "if sys.argv[2] == 'ignore': signal.signal(signal.SIGTERM, signal.SIG_IGN)\n"
    "lock = FileLock(Path(sys.argv[1])); assert lock.acquire(); print('held', flush=True); time.sleep(60)"
)


@contextmanager
def holder(path: Path, sigterm: str = "") -> Iterator[subprocess.Popen[bytes]]:
    """Run a process that holds the lock *path*; with *sigterm* ``ignore`` it ignores that signal."""
    with subprocess.Popen([sys.executable, "-P", "-c", HOLD, path, sigterm], stdout=subprocess.PIPE) as process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == b"held\n"
            yield process
        finally:
            process.kill()


def test_ends_the_holder(tmp_path: Path) -> None:
    """The holder gets SIGTERM, and its pid is returned when the lock is free."""
    with holder(tmp_path / "a.lock") as process:
        assert end_holder(tmp_path / "a.lock", timeout=10) == process.pid
        assert process.wait(10) == -15


def test_without_a_holder(tmp_path: Path) -> None:
    """If no process holds the lock, the result is None."""
    assert end_holder(tmp_path / "a.lock", timeout=1) is None


def test_a_stale_pid_is_left_alone(tmp_path: Path) -> None:
    """A running process that a stale lock file names gets no signal."""
    with holder(tmp_path / "other.lock") as other:
        (tmp_path / "a.lock").write_text(json.dumps({"pid": other.pid}))
        assert end_holder(tmp_path / "a.lock", timeout=1) is None
        assert other.poll() is None


def test_a_note_with_the_pid_of_another_process(tmp_path: Path) -> None:
    """The holder gets the signal, not the process that the note names."""
    with holder(tmp_path / "other.lock") as other, holder(tmp_path / "a.lock") as process:
        (tmp_path / "a.lock").write_text(json.dumps({"pid": other.pid}))
        assert end_holder(tmp_path / "a.lock", timeout=10) == process.pid
        assert process.wait(10) == -15
        assert other.poll() is None


def test_holder_that_ignores_sigterm(tmp_path: Path) -> None:
    """The error for a holder that does not exit names it and has the exit code BUSY."""
    with holder(tmp_path / "a.lock", "ignore") as process:
        with pytest.raises(StopTimeoutError, match=f"process {process.pid} is still running") as caught:
            end_holder(tmp_path / "a.lock", timeout=0.2)
        assert caught.value.exit_code is ExitCode.BUSY
        assert caught.value.details == {"pid": process.pid}
