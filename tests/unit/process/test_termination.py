"""Only the holder of a lock is ever asked to end."""

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
    "if sys.argv[2] == 'deaf': signal.signal(signal.SIGTERM, signal.SIG_IGN)\n"
    "lock = FileLock(Path(sys.argv[1])); assert lock.acquire(); print('held', flush=True); time.sleep(60)"
)


@contextmanager
def holder(path: Path, manner: str = "") -> Iterator[subprocess.Popen[bytes]]:
    """Run a process that holds the lock *path*; a deaf one ignores SIGTERM."""
    with subprocess.Popen([sys.executable, "-P", "-c", HOLD, path, manner], stdout=subprocess.PIPE) as process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == b"held\n"
            yield process
        finally:
            process.kill()


def test_ends_the_holder(tmp_path: Path) -> None:
    """The holder gets SIGTERM, and its pid comes back when the lock is free."""
    with holder(tmp_path / "a.lock") as process:
        assert end_holder(tmp_path / "a.lock", timeout=10) == process.pid
        assert process.wait(10) == -15


def test_nobody_there(tmp_path: Path) -> None:
    """Where nobody holds the lock there is nobody to end."""
    assert end_holder(tmp_path / "a.lock", timeout=1) is None


def test_a_stale_pid_is_left_alone(tmp_path: Path) -> None:
    """A living process that a stale file names is not touched."""
    with holder(tmp_path / "other.lock") as innocent:
        (tmp_path / "a.lock").write_text(json.dumps({"pid": innocent.pid}))
        assert end_holder(tmp_path / "a.lock", timeout=1) is None
        assert innocent.poll() is None


def test_a_note_that_names_another(tmp_path: Path) -> None:
    """The holder is ended, not the process that its note names."""
    with holder(tmp_path / "other.lock") as innocent, holder(tmp_path / "a.lock") as process:
        (tmp_path / "a.lock").write_text(json.dumps({"pid": innocent.pid}))
        assert end_holder(tmp_path / "a.lock", timeout=10) == process.pid
        assert process.wait(10) == -15
        assert innocent.poll() is None


def test_deaf_holder(tmp_path: Path) -> None:
    """A holder that does not end is named in an error with the code for busy."""
    with holder(tmp_path / "a.lock", "deaf") as process:
        with pytest.raises(StopTimeoutError, match=f"process {process.pid} still runs") as caught:
            end_holder(tmp_path / "a.lock", timeout=0.2)
        assert caught.value.exit_code is ExitCode.BUSY
        assert caught.value.details == {"pid": process.pid}
