from __future__ import annotations

import logging
import os
import select
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from mosaic_gateway.process.log_output import LINES, TRACEBACKS, LineFormatter, ThrottledHandler


class _Lines(logging.Handler):
    """Remembers what it was given, as formatted text."""

    def __init__(self) -> None:
        super().__init__()
        self.setFormatter(LineFormatter())
        self.lines: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.lines.append(self.format(record).split(" ", 1)[1])


class _Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


@contextmanager
def throttled(handler: ThrottledHandler) -> Iterator[logging.Logger]:
    """Yield a logger with *handler*, which is closed at the end."""
    logger = logging.getLogger("log")
    logger.setLevel(logging.INFO)
    logger.addHandler(handler)
    try:
        yield logger
    finally:
        logger.removeHandler(handler)
        handler.close()


@pytest.fixture
def clock() -> _Clock:
    """A clock that the test sets."""
    return _Clock()


@pytest.fixture
def target() -> _Lines:
    """What is written."""
    return _Lines()


@pytest.fixture
def log(target: _Lines, clock: _Clock) -> Iterator[logging.Logger]:
    """A logger that is throttled, with a clock that the test sets."""
    with throttled(ThrottledHandler([target], clock=clock)) as logger:
        yield logger


def test_repeated_records_are_counted(log: logging.Logger, target: _Lines, clock: _Clock) -> None:
    """Of an attack's lines some are written, then their number; another line is written between them."""
    for number in range(LINES + 1234):
        log.warning("Invalid request from %d", number)
    log.error("Genuine")
    assert target.lines[:LINES] == [f"WARNING log: Invalid request from {number}" for number in range(LINES)]
    assert target.lines[LINES:] == ["ERROR log: Genuine"]
    clock.now += 60
    log.info("Later")
    last = f"WARNING log: Invalid request from {LINES + 1233} ... repeated 1,234 times in 60 s"
    assert target.lines[LINES + 1 :] == [last, "INFO log: Later"]
    log.warning("Invalid request from %d", 1)
    assert target.lines[-1] == "WARNING log: Invalid request from 1"


def test_tracebacks_are_limited(log: logging.Logger, target: _Lines) -> None:
    """Fewer records are written if they have a traceback."""
    for _ in range(LINES):
        log.error("Failed", exc_info=ValueError("x"))
    assert len(target.lines) == TRACEBACKS


def test_records_name_what_they_are_limited_by(log: logging.Logger, target: _Lines) -> None:
    """Records with ``throttle`` are counted by its value."""
    for number in range(3):
        for _ in range(LINES + 5):
            log.warning("Failed sign-in from %d", number, extra={"throttle": f"address {number}"})
    assert len(target.lines) == 3 * LINES


def test_any_number_of_messages(log: logging.Logger, target: _Lines, clock: _Clock) -> None:
    """Messages that all differ take no unlimited memory, and nothing withheld is forgotten."""
    for _ in range(LINES + 1):
        log.warning("Same")
    for number in range(2000):
        log.warning(f"Message {number}")  # noqa: G004 - as some libraries do
    assert sum("repeated 1 times" in line for line in target.lines) == 1


def test_numbers_are_reported_without_a_further_record(target: _Lines) -> None:
    """The number is written when the period ends, and when the handler is closed."""
    with throttled(ThrottledHandler([target], period=0.5)) as logger:
        for _ in range(LINES + 2):
            logger.warning("Same")
        deadline = time.monotonic() + 10
        while "repeated" not in target.lines[-1] and time.monotonic() < deadline:
            time.sleep(0.01)
        assert "repeated 2 times" in target.lines[-1]
    with throttled(ThrottledHandler([target])) as logger:
        for _ in range(LINES + 3):
            logger.warning("Same")
    assert "repeated 3 times" in target.lines[-1]


def test_one_line_for_each_record(log: logging.Logger, target: _Lines) -> None:
    """A line cannot be forged by control characters in an argument, nor be of any length."""
    log.warning("GET %s failed", "/a\nERROR log: forged\x1b[2J\u2028x")
    log.warning("GET %s failed", "/" + "a" * 100_000)
    assert target.lines[0] == r"WARNING log: GET /a\x0aERROR log: forged\x1b[2J\x2028x failed"
    assert len(target.lines[1]) < 5000


UNREAD = """
import logging, sys, time
from mosaic_gateway.gateway.run.lifecycle import configure_logging
configure_logging()
for number in range(1000):
    logging.getLogger(str(number)).warning("x" * 1000)
print("not blocked", flush=True)
sys.stdin.readline()
logging.warning("read again")
print("done", flush=True)
"""


def test_unread_pipe_does_not_block() -> None:
    """A process whose standard error is not read goes on; the number of lost lines is reported later."""
    with subprocess.Popen(
        [sys.executable, "-c", UNREAD], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as process:
        assert process.stdin
        assert process.stdout
        assert process.stderr
        try:
            assert select.select([process.stdout], [], [], 30)[0], "blocked"
            assert process.stdout.readline() == b"not blocked\n"
            while select.select([process.stderr], [], [], 0.2)[0]:
                os.read(process.stderr.fileno(), 65536)
            process.stdin.write(b"\n")
            process.stdin.flush()
            assert process.stdout.readline() == b"done\n"
            rest = process.stderr.read().decode()
        finally:
            process.kill()
    assert "lines lost: standard error was not read" in rest
    assert "read again" in rest
