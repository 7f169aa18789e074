"""One server process: started so that it ends with us, listened to, waited for.

Theory of operation. The kernel's death signal follows the *thread* that forked, not the process, and the
caller's thread may be a pool's that ends when it is idle. So each server has a thread of its own,
which starts it, waits for its end, and lives exactly as long.
"""

from __future__ import annotations

import signal
import subprocess
import threading
from collections.abc import Sequence
from pathlib import Path

from mosaic_gateway.engines.base import EngineStartError
from mosaic_gateway.process.account import Account, assume, popen_identity
from mosaic_gateway.process.command import die_with_parent, ending_of
from mosaic_gateway.process.logfile import LogPump, RotatingFile

__all__ = ["ServerProcess"]

STOPS = ((signal.SIGINT, 10.0), (signal.SIGQUIT, 5.0), (signal.SIGKILL, 5.0))  # signal, seconds


class ServerProcess:
    """A postmaster that is our child. Starts in the constructor's stead with `start`, once."""

    def __init__(self, argv: Sequence[str | Path], *, cwd: Path, account: Account | None, log: Path) -> None:
        self._argv = [str(word) for word in argv]
        self._cwd = cwd
        self._account = account
        self._log = log
        self._started = threading.Event()
        self._ended = threading.Event()
        self._error: OSError | subprocess.SubprocessError | None = None
        self._process: subprocess.Popen[bytes] | None = None
        self._pump: LogPump | None = None

    def start(self) -> None:
        """Start the server; returns when the process exists. Raises EngineStartError."""
        with assume(self._account):
            file = RotatingFile(self._log)
            file.write(b"")  # opened here, so that the file is the account's
        # Both are made here: the loader's and the import system's locks must not be taken by a forked child.
        before = die_with_parent(signal.SIGINT)
        identity = popen_identity(self._account)

        def supervise() -> None:
            try:
                self._process = subprocess.Popen(
                    self._argv, cwd=self._cwd, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                    stderr=subprocess.STDOUT, env={"LC_ALL": "C.UTF-8", "TZ": "UTC"}, umask=0o077,
                    preexec_fn=before,  # noqa: PLW1509 - takes no lock: everything it needs was loaded before
                    process_group=0,  # a terminal's Ctrl-C is for us; we stop the server ourselves
                    **identity,
                )  # fmt: skip
                if self._process.stdout is not None:
                    self._pump = LogPump(self._process.stdout, file)
                    self._pump.start()
            except (OSError, subprocess.SubprocessError) as error:
                self._error = error
                file.close()
            self._started.set()
            if self._process is not None:
                self._process.wait()
            self._ended.set()

        threading.Thread(target=supervise, name="postgres", daemon=True).start()
        self._started.wait()
        if self._error is not None:
            raise EngineStartError(f"{self._argv[0]} could not be started: {self._error}") from self._error

    @property
    def pid(self) -> int:
        """The postmaster's pid; 0 before the start."""
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
        """Return the last lines that the server wrote; complete once the process has ended."""
        if self._pump is None:
            return ""
        if self._ended.is_set():
            self._pump.join(1)
        return self._pump.tail()

    def stop(self) -> None:
        """End the server within 20 s: fast, then at once, then by force; harmless when it has ended."""
        for number, limit in STOPS:
            if not self.running() or self._process is None:
                break
            self._process.send_signal(number)
            if self.wait(limit):
                break
        if self._pump is not None:
            self._pump.join(1)
