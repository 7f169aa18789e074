"""The postmaster as a child process, and its shutdown."""

from __future__ import annotations

import signal
from collections.abc import Sequence
from pathlib import Path

from mosaic_gateway.engines.engine_process import EngineProcess

__all__ = ["ServerProcess"]

#: Fast shutdown, immediate shutdown, kill; each with its time limit in seconds.
STOPS = ((signal.SIGINT, 10.0), (signal.SIGQUIT, 5.0), (signal.SIGKILL, 5.0))


class ServerProcess(EngineProcess):
    """A postmaster, started as a child process."""

    def __init__(self, argv: Sequence[str | Path], *, cwd: Path, log: Path) -> None:
        super().__init__(argv, name="postgres", log=log, orphan_signal=signal.SIGINT, cwd=cwd)

    def stop(self) -> None:
        """Shut the server down within 20 s: fast, then immediate, then SIGKILL; does nothing once it has exited."""
        self.end(STOPS)
