"""Log output that requests cannot flood and that an unread pipe does not stop.

`ThrottledHandler` passes on a limited number of similar records in a period and counts the others. Records are similar
if they have the same logger, level and message before its arguments are inserted; or, of any message, the same value
of ``throttle`` (``logger.warning(…, extra={"throttle": address})``).
"""

from __future__ import annotations

import logging
import os
import select
import threading
import time
from collections.abc import Callable, Hashable, Sequence
from contextlib import suppress
from dataclasses import dataclass

__all__ = ["LineFormatter", "StandardErrorHandler", "ThrottledHandler", "log_handler"]

PERIOD = 60.0  # seconds
LINES = 30  # of similar records in a period
TRACEBACKS = 5  # of them with a traceback
KINDS = 1000  # of records in a period; beyond them, all periods end
LONGEST_LINE = 4096  # characters
STALL = 1.0  # seconds to wait once for a pipe that is full
_CONTROLS = (*range(9), *range(10, 32), *range(127, 160), 0x2028, 0x2029)  # all but the tabulator
_ESCAPES = {number: f"\\x{number:02x}" for number in _CONTROLS}


class LineFormatter(logging.Formatter):
    """One line for each record, times in UTC; only a traceback has further lines."""

    converter = staticmethod(time.gmtime)

    def __init__(self) -> None:
        super().__init__("%(asctime)sZ %(levelname)s %(name)s: %(message)s", "%Y-%m-%dT%H:%M:%S")

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802 - the name is logging's
        """Return the line, with control characters escaped and its length limited."""
        line = super().formatMessage(record).rstrip("\n")
        if len(line) > LONGEST_LINE:
            line = f"{line[:LONGEST_LINE]} ..."
        return line.translate(_ESCAPES)


@dataclass(slots=True)
class _Period:
    """Similar records since the time *began*: the last one, and how many were passed on and withheld."""

    began: float
    last: logging.LogRecord
    passed: int = 0
    withheld: int = 0


class ThrottledHandler(logging.Handler):
    """Passes records on to *targets*, and instead of too many similar ones their number."""

    def __init__(
        self, targets: Sequence[logging.Handler], *, period: float = PERIOD, clock: Callable[[], float] = time.monotonic
    ) -> None:
        super().__init__()
        self._targets = targets
        self._period = period
        self._clock = clock
        self._periods: dict[Hashable, _Period] = {}  # in the order of their begin
        self._timer: threading.Timer | None = None

    def emit(self, record: logging.LogRecord) -> None:
        """Pass *record* on, or count it; the caller (`logging`) holds the lock."""
        now = self._clock()
        self._report(now if len(self._periods) < KINDS else None)
        kind = getattr(record, "throttle", None) or (record.name, record.levelno, str(record.msg))
        current = self._periods.setdefault(kind, _Period(now, record))
        if current.passed < (TRACEBACKS if record.exc_info else LINES):
            current.passed += 1
            self._pass_on(record)
            return
        current.withheld += 1
        current.last = record
        self._start_timer()

    def close(self) -> None:
        """Report what was withheld, and close the targets."""
        with self.lock or threading.Lock():
            self._report(None)
            if self._timer is not None:
                self._timer.cancel()
        for target in self._targets:
            target.close()
        super().close()

    def _report(self, now: float | None) -> None:
        """Report the withheld records of each period that has ended, of all of them if *now* is None."""
        while self._periods:
            kind, first = next(iter(self._periods.items()))
            if now is not None and now < first.began + self._period:
                return
            del self._periods[kind]
            if first.withheld:
                seconds = min(self._period, self._clock() - first.began)
                self._pass_on(_repetition(first.last, first.withheld, seconds))

    def _start_timer(self) -> None:
        if self._timer is None:
            self._timer = threading.Timer(self._period, self._report_late)
            self._timer.daemon = True
            self._timer.start()

    def _report_late(self) -> None:
        with self.lock or threading.Lock():
            self._timer = None
            self._report(self._clock())
            if any(period.withheld for period in self._periods.values()):
                self._start_timer()

    def _pass_on(self, record: logging.LogRecord) -> None:
        for target in self._targets:
            target.handle(record)


def log_handler(also: logging.Handler | None = None) -> ThrottledHandler:
    """Return the handler that writes the log to standard error and *also*."""
    handlers = [StandardErrorHandler()] if also is None else [StandardErrorHandler(), also]
    for handler in handlers:
        handler.setFormatter(LineFormatter())
    return ThrottledHandler(handlers)


def _repetition(record: logging.LogRecord, count: int, seconds: float) -> logging.LogRecord:
    text = f"{record.getMessage()} ... repeated {count:,} times in {seconds:.0f} s"
    return logging.makeLogRecord({"name": record.name, "levelno": record.levelno, "levelname": record.levelname,
                                  "msg": "%s", "args": (text,)})  # fmt: skip


class StandardErrorHandler(logging.StreamHandler):  # type: ignore[type-arg]
    """Writes to standard error; if that is a pipe that is not read, lines are lost instead of stopping the process."""

    _lost = 0

    def emit(self, record: logging.LogRecord) -> None:
        """Write *record*; the caller (`logging`) holds the lock."""
        try:
            descriptor = self.stream.fileno()
        except (AttributeError, OSError, ValueError):  # not a real file
            super().emit(record)
            return
        with suppress(OSError):
            if self._lost and _is_writable(descriptor, 0):
                note = {"name": __name__, "levelname": "WARNING", "msg": "%d lines lost: standard error was not read"}
                lost, self._lost = self._lost, 0
                self._write(descriptor, logging.makeLogRecord({**note, "args": (lost,)}))
            self._write(descriptor, record)

    def _write(self, descriptor: int, record: logging.LogRecord) -> None:
        data = f"{self.format(record)}\n".encode("utf-8", "backslashreplace")
        for start in range(0, len(data), select.PIPE_BUF):
            if not _is_writable(descriptor, 0 if self._lost else STALL):
                self._lost += 1
                return
            os.write(descriptor, data[start : start + select.PIPE_BUF])


def _is_writable(descriptor: int, wait: float) -> bool:
    """Return whether a pipe takes ``PIPE_BUF`` bytes at once, after at most *wait* seconds."""
    return bool(select.select([], [descriptor], [], wait)[1])
