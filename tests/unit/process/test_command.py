"""Running other programs: input and output, errors, timeouts, and the parent-death signal."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from mosaic_gateway.process.command import CommandFailedError, run

FOLLOW = (
    "import os, signal, subprocess, sys\n"
    "from mosaic_gateway.process.command import die_with_parent\n"
    "child = subprocess.Popen(['sleep', '60'], preexec_fn=die_with_parent(signal.SIGTERM))\n"
    "print(child.pid, flush=True); child.wait()"
)


def test_output_and_input() -> None:
    """The output is returned; standard input is the given bytes, or empty."""
    assert run([sys.executable, "-c", "print(input()[::-1])"], timeout=20, stdin=b"abc\n") == "cba\n"
    assert run([sys.executable, "-c", "import sys; print(sys.stdin.read() == '')"], timeout=20) == "True\n"


@pytest.mark.parametrize(
    ("code", "message"),
    [
        ("import sys; sys.exit('the reason')", "exit code 1: the reason"),
        ("import sys; sys.exit(7)", "exit code 7: no output"),
        ("import os; os.kill(os.getpid(), 9)", "signal SIGKILL"),
    ],
)
def test_failures(code: str, message: str) -> None:
    """The error has the exit code or signal, and the output."""
    with pytest.raises(CommandFailedError, match=message):
        run([sys.executable, "-c", code], timeout=20)


def test_limits(tmp_path: Path) -> None:
    """A program that exceeds its timeout, or cannot be started, is an error."""
    began = time.monotonic()
    with pytest.raises(CommandFailedError, match=r"did not exit within 0\.2 s"):
        run(["/bin/sleep", "60"], timeout=0.2)
    assert time.monotonic() - began < 10
    with pytest.raises(CommandFailedError, match="No such file"):
        run([tmp_path / "none"], timeout=1)


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="prctl(2) is Linux's")
def test_die_with_parent() -> None:
    """The child is terminated when its parent is killed."""
    with subprocess.Popen([sys.executable, "-P", "-c", FOLLOW], stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout is not None
        child = int(parent.stdout.readline())
        assert Path(f"/proc/{child}").exists()
        parent.send_signal(signal.SIGKILL)
        parent.wait()
    deadline = time.monotonic() + 10
    while Path(f"/proc/{child}/exe").is_symlink() and _alive(child) and time.monotonic() < deadline:
        time.sleep(0.005)
    assert not _alive(child)


def _alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False
