"""One engine process: started so that it ends with us, its log kept, waited for.

Theory of operation. The kernel's death signal follows the *thread* that forked, not the process, and the
caller's thread may be a pool's that ends when it is idle. So each process has a thread of its own,
which starts it, waits for its end, and lives exactly as long.
"""

from __future__ import annotations

import signal
import subprocess
import threading
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import IO

from mosaic_gateway.engines.base import EngineStartError
from mosaic_gateway.process.command import die_with_parent, ending_of
from mosaic_gateway.process.logfile import LogPump, RotatingFile

__all__ = ["EngineProcess"]

ENVIRONMENT = {"LC_ALL": "C.UTF-8", "TZ": "UTC"}
JOIN = 1.0  # seconds for the end of the output


class EngineProcess:
    """A process that is our child. Starts in the constructor's stead with `start`, once.

    What it writes goes into *log*. One that *reports* has standard output for that, and for standard input a pipe of
    which we hold the other end: it can tell by its end that we have ended, however we did.
    """

    def __init__(
        self,
        argv: Sequence[str | Path],
        *,
        name: str,
        log: Path,
        orphan_signal: signal.Signals,
        cwd: str | Path = "/",
        inherited: tuple[int, ...] = (),
        reports: bool = False,
    ) -> None:
        """*orphan_signal* is what it gets when we die; *inherited* are descriptors that it keeps open until it ends."""
        self._argv = [str(word) for word in argv]
        self._name = name
        self._log = log
        self._orphan_signal = orphan_signal
        self._cwd = cwd
        self._inherited = inherited
        self._reports = reports
        self._started = threading.Event()
        self._ended = threading.Event()
        self._error: OSError | subprocess.SubprocessError | None = None
        self._process: subprocess.Popen[bytes] | None = None
        self._pump: LogPump | None = None

    def start(self) -> None:
        """Start it; returns when the process exists. Raises EngineStartError."""
        file = RotatingFile(self._log)
        file.write(b"")  # opened here, so that the caller gets what fails
        # Made here: the loader's and the import system's locks must not be taken by a forked child.
        before = die_with_parent(self._orphan_signal)
        said, summary = (subprocess.PIPE, subprocess.PIPE) if self._reports else (subprocess.STDOUT, subprocess.DEVNULL)

        def supervise() -> None:
            try:
                self._process = subprocess.Popen(
                    self._argv, cwd=self._cwd, stdin=summary, stdout=subprocess.PIPE, stderr=said,
                    env=ENVIRONMENT, umask=0o077, pass_fds=self._inherited,
                    preexec_fn=before,  # noqa: PLW1509 - takes no lock: everything it needs was loaded before
                    process_group=0,  # a terminal's Ctrl-C is for us; we stop the process ourselves
                )  # fmt: skip
            except (OSError, subprocess.SubprocessError) as error:
                self._error = error
                file.close()
            else:
                self._listen(self._process, file)
            self._started.set()
            if self._process is not None:
                self._process.wait()
                if self._process.stdin is not None:
                    with suppress(OSError):
                        self._process.stdin.close()
            self._ended.set()
            self.has_ended()

        threading.Thread(target=supervise, name=self._name, daemon=True).start()
        self._started.wait()
        if self._error is not None:
            raise EngineStartError(f"{self._argv[0]} could not be started: {self._error}") from self._error

    def _listen(self, process: subprocess.Popen[bytes], file: RotatingFile) -> None:
        logged = process.stderr if self._reports else process.stdout
        if logged is not None:
            self._pump = LogPump(logged, file)
            self._pump.start()
        if self._reports and process.stdout is not None:
            threading.Thread(
                target=self.hear, args=(process.stdout,), name=f"{self._name}-reports", daemon=True
            ).start()

    def hear(self, reports: IO[bytes]) -> None:
        """Read *reports* to their end, in a thread of their own; for those that have any."""

    def has_ended(self) -> None:
        """Hear, in the process's own thread, that it has ended."""

    @property
    def pid(self) -> int:
        """The process's pid; 0 before the start."""
        return self._process.pid if self._process is not None else 0

    def running(self) -> bool:
        """Return whether the process has started and not ended."""
        return self._started.is_set() and not self._ended.is_set()

    def wait(self, seconds: float) -> bool:
        """Wait at most *seconds* for the end of the process; return whether it has ended."""
        return self._ended.wait(seconds)

    def ending(self) -> str:
        """Return how the process ended, for an error message."""
        code = self._process.returncode if self._process is not None else None
        return "it still runs" if code is None else ending_of(code)

    def tail(self) -> str:
        """Return the last lines of its log; complete once the process has ended."""
        if self._pump is None:
            return ""
        if self._ended.is_set():
            self._pump.join(JOIN)
        return self._pump.tail()

    def end(self, orders: Sequence[tuple[signal.Signals, float]]) -> None:
        """Give one of *orders* after the other, each with the seconds that it has; harmless when it has ended."""
        for number, limit in orders:
            if not self.running() or self._process is None:
                break
            self._process.send_signal(number)
            if self.wait(limit):
                break
        if self._pump is not None:
            self._pump.join(JOIN)
