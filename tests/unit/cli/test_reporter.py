"""Progress: a live line on a terminal, plain lines elsewhere; standard output stays clean."""

from __future__ import annotations

import os
import pty
import re
import subprocess
import sys

LIMIT = 30.0  # seconds
WORK = """
from mosaic_gateway.cli.reporter import reporter
with reporter() as report:
    report.begin("Boil the water")
    report.done("Boil the water")
    report.begin("Ask the kettle")
    report.done("The kettle answers")
print("the result")
"""
CONTROL = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")


def test_plain_lines_where_nobody_watches() -> None:
    """One line when something begins, one more where its end says something new; no control characters."""
    done = subprocess.run([sys.executable, "-c", WORK], capture_output=True, timeout=LIMIT, check=True)
    assert done.stdout == b"the result\n"
    assert done.stderr.decode().splitlines() == ["Boil the water…", "Ask the kettle…", "The kettle answers"]


def test_a_live_line_on_a_terminal() -> None:
    """What is done stays with a tick, what is under way moves and is gone in the end; the cursor comes back."""
    shown, out = _on_a_terminal(WORK)
    assert out == b"the result\n"
    assert "\x1b[2K" in shown, "the line under way is drawn over"
    assert shown.rindex("\x1b[?25h") > shown.rindex("\x1b[?25l"), "the cursor is shown again"
    lines = [CONTROL.sub("", line.rpartition("\x1b[2K")[2]).rstrip() for line in shown.split("\n")]
    assert [line for line in lines if line.startswith("✓")] == ["✓ Boil the water", "✓ The kettle answers"]
    assert "Ask the kettle…" in shown
    assert lines[-1] == ""


def _on_a_terminal(script: str) -> tuple[str, bytes]:
    """Run *script* with a terminal for standard error; return what that showed, and standard output."""
    leader, follower = pty.openpty()
    environ = {**os.environ, "TERM": "xterm", "COLUMNS": "80", "LC_ALL": "C.UTF-8"}
    for name in ("NO_COLOR", "FORCE_COLOR", "TTY_COMPATIBLE"):
        environ.pop(name, None)
    with subprocess.Popen(
        [sys.executable, "-c", script], stdout=subprocess.PIPE, stderr=follower, env=environ
    ) as process:
        os.close(follower)
        shown = b""
        try:
            while chunk := os.read(leader, 4096):
                shown += chunk
        except OSError:  # the other side is closed
            pass
        out, _ = process.communicate(timeout=LIMIT)
    os.close(leader)
    assert process.returncode == 0
    return shown.decode(), out
