"""One server process of PostgreSQL, and how it is ended."""

from __future__ import annotations

import signal
from collections.abc import Sequence
from pathlib import Path

from mosaic_gateway.engines.engine_process import EngineProcess

__all__ = ["ServerProcess"]

#: A fast shutdown, an immediate one, force; seconds.
STOPS = ((signal.SIGINT, 10.0), (signal.SIGQUIT, 5.0), (signal.SIGKILL, 5.0))


class ServerProcess(EngineProcess):
    """A postmaster that is our child."""

    def __init__(self, argv: Sequence[str | Path], *, cwd: Path, log: Path) -> None:
        super().__init__(argv, name="postgres", log=log, orphan_signal=signal.SIGINT, cwd=cwd)

    def stop(self) -> None:
        """End the server within 20 s: fast, then at once, then by force; harmless when it has ended."""
        self.end(STOPS)
