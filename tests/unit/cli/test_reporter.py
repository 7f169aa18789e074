"""Progress output: a live line on a terminal, plain lines otherwise; never on standard output."""

from __future__ import annotations

import os
import pty
import re
import subprocess
import sys

LIMIT = 30.0  # seconds
WORK = """
from mosaic_gateway.cli.progress_reporter import reporter
with reporter() as report:
    report.begin("Boil the water")
    report.done("Boil the water")
    report.begin("Ask the kettle")
    report.done("The kettle answers")
print("the result")
"""
CONTROL = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")


def test_plain_lines_without_a_terminal() -> None:
    """One line at the beginning, another if the result has a different text; no control characters."""
    done = subprocess.run([sys.executable, "-c", WORK], capture_output=True, timeout=LIMIT, check=True)
    assert done.stdout == b"the result\n"
    assert done.stderr.decode().splitlines() == ["Boil the water…", "Ask the kettle…", "The kettle answers"]


def test_a_live_line_on_a_terminal() -> None:
    """Finished operations stay with a tick; the current one is overwritten and removed; the cursor is shown again."""
    shown, out = _on_a_terminal(WORK)
    assert out == b"the result\n"
    assert "\x1b[2K" in shown, "the current line is overwritten"
    assert shown.rindex("\x1b[?25h") > shown.rindex("\x1b[?25l"), "the cursor is shown again"
    lines = [CONTROL.sub("", line.rpartition("\x1b[2K")[2]).rstrip() for line in shown.split("\n")]
    assert [line for line in lines if line.startswith("✓")] == ["✓ Boil the water", "✓ The kettle answers"]
    assert "Ask the kettle…" in shown
    assert lines[-1] == ""


def _on_a_terminal(script: str) -> tuple[str, bytes]:
    """Run *script* with a terminal as standard error; return the terminal's output and standard output."""
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
        except OSError:  # the other end is closed
            pass
        out, _ = process.communicate(timeout=LIMIT)
    os.close(leader)
    assert process.returncode == 0
    return shown.decode(), out
