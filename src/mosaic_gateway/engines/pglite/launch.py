"""One sidecar process: started so that it ends with us, listened to, waited for.

Theory of operation. As with PostgreSQL's own server (``postgres.launch``), a thread of its own starts the process,
because the kernel's death signal follows the thread; and it lives exactly as long. The sidecar's standard input is a
pipe of which we hold the other end: it ends when that closes, however we end. On standard output it says, one JSON
object a line, what becomes of it; on standard error PGlite writes its log.
"""

from __future__ import annotations

import json
import signal
import subprocess
import threading
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import IO, Any

from mosaic_gateway.engines.base import EngineStartError
from mosaic_gateway.process.account import Account, assume, popen_identity
from mosaic_gateway.process.command import die_with_parent, ending_of
from mosaic_gateway.process.logfile import LogPump, RotatingFile

__all__ = ["Sidecar"]

PATIENCE = 10.0  # seconds from the order to stop to the use of force
KILL_LIMIT = 5.0  # seconds
JOIN = 1.0  # seconds for the end of the output
ENVIRONMENT = {"LC_ALL": "C.UTF-8", "TZ": "UTC"}

Event = dict[str, Any]


class Sidecar:
    """A sidecar that is our child. Starts in the constructor's stead with `start`, once."""

    def __init__(
        self, argv: Sequence[str | Path], *, account: Account | None, log: Path, inherited: tuple[int, ...] = ()
    ) -> None:
        """*log* is PGlite's log file; *inherited* are descriptors that the sidecar keeps open until it ends."""
        self._argv = [str(word) for word in argv]
        self._account = account
        self._log = log
        self._inherited = inherited
        self._begun = threading.Event()
        self._ended = threading.Event()
        self._changed = threading.Condition()
        self._events: list[Event] = []
        self._error: OSError | subprocess.SubprocessError | None = None
        self._process: subprocess.Popen[bytes] | None = None
        self._pump: LogPump | None = None

    def start(self) -> None:
        """Start it; returns when the process exists. Raises EngineStartError."""
        with assume(self._account):
            file = RotatingFile(self._log)
            file.write(b"")  # opened here, so that the file is the account's
        # Both are made here: the loader's and the import system's locks must not be taken by a forked child.
        before = die_with_parent(signal.SIGTERM)
        identity = popen_identity(self._account)

        def supervise() -> None:
            try:
                self._process = subprocess.Popen(
                    self._argv, cwd="/", stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                    env=ENVIRONMENT, umask=0o077, pass_fds=self._inherited,
                    preexec_fn=before,  # noqa: PLW1509 - takes no lock: everything it needs was loaded before
                    process_group=0,  # a terminal's Ctrl-C is for us; we stop the sidecar ourselves
                    **identity,
                )  # fmt: skip
            except (OSError, subprocess.SubprocessError) as error:
                self._error = error
                file.close()
            else:
                self._listen(self._process, file)
            self._begun.set()
            if self._process is not None:
                self._process.wait()
                if self._process.stdin is not None:
                    with suppress(OSError):
                        self._process.stdin.close()
            self._ended.set()
            with self._changed:
                self._changed.notify_all()

        threading.Thread(target=supervise, name="pglite", daemon=True).start()
        self._begun.wait()
        if self._error is not None:
            raise EngineStartError(f"{self._argv[0]} could not be started: {self._error}") from self._error

    def _listen(self, process: subprocess.Popen[bytes], file: RotatingFile) -> None:
        if process.stderr is not None:
            self._pump = LogPump(process.stderr, file)
            self._pump.start()
        threading.Thread(target=self._read, args=(process.stdout,), name="pglite-events", daemon=True).start()

    def _read(self, stream: IO[bytes]) -> None:
        with stream:
            for line in stream:
                with suppress(ValueError):
                    event = json.loads(line)
                    if isinstance(event, dict) and "event" in event:
                        with self._changed:
                            self._events.append(event)
                            self._changed.notify_all()

    @property
    def pid(self) -> int:
        """The process's pid; 0 before the start."""
        return self._process.pid if self._process is not None else 0

    def await_event(self, *names: str, limit: float) -> Event | None:
        """Return the first event of one of *names*, None if the sidecar ended or *limit* seconds passed without one."""
        with self._changed:
            self._changed.wait_for(lambda: self.event(*names) is not None or self._ended.is_set(), limit)
            found = self.event(*names)
            if found is None and self._ended.is_set():  # its last words may still be in the pipe
                self._changed.wait_for(lambda: self.event(*names) is not None, JOIN)
                found = self.event(*names)
        return found

    def event(self, *names: str) -> Event | None:
        """Return the first event of one of *names* that came so far."""
        return next((event for event in self._events if event["event"] in names), None)

    def running(self) -> bool:
        """Return whether the process has started and not ended."""
        return self._begun.is_set() and not self._ended.is_set()

    def wait(self, seconds: float) -> bool:
        """Wait at most *seconds* for the end of the process; return whether it has ended."""
        return self._ended.wait(seconds)

    def ending(self) -> str:
        """Return how the process ended, for an error message."""
        code = self._process.returncode if self._process is not None else None
        return "it still runs" if code is None else ending_of(code)

    def tail(self) -> str:
        """Return the last lines of PGlite's log; complete once the process has ended."""
        if self._pump is None:
            return ""
        if self._ended.is_set():
            self._pump.join(JOIN)
        return self._pump.tail()

    def stop(self, patience: float = PATIENCE) -> None:
        """End it: cleanly within *patience* seconds, then by force (5 s more); harmless when it has ended."""
        for number, limit in ((signal.SIGTERM, patience), (signal.SIGKILL, KILL_LIMIT)):
            if not self.running() or self._process is None:
                break
            self._process.send_signal(number)
            if self.wait(limit):
                break
        if self._pump is not None:
            self._pump.join(JOIN)
