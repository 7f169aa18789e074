"""A child process that runs an engine: start, log, wait, and stop.

Theory of operation. The parent-death signal (PR_SET_PDEATHSIG) is bound to the *thread* that forked, not to the
process, and the caller's thread may belong to a pool that ends idle threads. So each child has its own thread,
which starts it, waits for its exit, and ends with it.
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
JOIN = 1.0  # seconds to wait for the rest of the output


class EngineProcess:
    """A child process; `start` starts it, once.

    Its output goes to the file *log*. With *reports*, its standard output is passed to `read_reports` instead, and
    its standard input is a pipe from this process: the child sees end of file when this process exits.
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
        """*orphan_signal* is sent to it when this process exits; it inherits the descriptors *inherited*."""
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
        """Start the process; returns once it exists. Raises EngineStartError."""
        file = RotatingFile(self._log)
        file.write(b"")  # opened here, so that an error is raised to the caller
        # Created here: a forked child must not take the locks of the loader and of the import system.
        before = die_with_parent(self._orphan_signal)
        stdin, stderr = (subprocess.PIPE, subprocess.PIPE) if self._reports else (subprocess.DEVNULL, subprocess.STDOUT)

        def supervise() -> None:
            try:
                self._process = subprocess.Popen(
                    self._argv, cwd=self._cwd, stdin=stdin, stdout=subprocess.PIPE, stderr=stderr,
                    env=ENVIRONMENT, umask=0o077, pass_fds=self._inherited,
                    preexec_fn=before,  # noqa: PLW1509 - takes no lock: all it needs is already loaded
                    process_group=0,  # a terminal's Ctrl-C reaches only this process, which stops the child
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
            self.on_exit()

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
                target=self.read_reports, args=(process.stdout,), name=f"{self._name}-reports", daemon=True
            ).start()

    def read_reports(self, reports: IO[bytes]) -> None:
        """Read the stream *reports* to its end, in its own thread; for subclasses with *reports*."""

    def on_exit(self) -> None:
        """Called in the process's own thread after its exit; for subclasses."""

    @property
    def pid(self) -> int:
        """The process's pid; 0 before the start."""
        return self._process.pid if self._process is not None else 0

    def running(self) -> bool:
        """Return whether the process has started and not exited."""
        return self._started.is_set() and not self._ended.is_set()

    def wait(self, seconds: float) -> bool:
        """Wait at most *seconds* for the process to exit; return whether it has."""
        return self._ended.wait(seconds)

    def ending(self) -> str:
        """Return a description of the process's exit, for an error message."""
        code = self._process.returncode if self._process is not None else None
        return "it is still running" if code is None else ending_of(code)

    def tail(self) -> str:
        """Return the last lines of its log; complete once the process has exited."""
        if self._pump is None:
            return ""
        if self._ended.is_set():
            self._pump.join(JOIN)
        return self._pump.tail()

    def end(self, signals: Sequence[tuple[signal.Signals, float]]) -> None:
        """Send each of *signals* in turn until it exits, waiting the given seconds; does nothing once it has exited."""
        for number, limit in signals:
            if not self.running() or self._process is None:
                break
            self._process.send_signal(number)
            if self.wait(limit):
                break
        if self._pump is not None:
            self._pump.join(JOIN)
