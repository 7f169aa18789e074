"""Database engines: what runs or reaches the database of an installation.

`engine_for` returns the engine that the settings name, an `Engine`. `connect` opens a session with the settings that
all parts of the program share. `EngineError` and its subclasses are what starting and verifying can raise.
Each engine has a package of its own (`postgres`, `pglite`); a server that is named by URL needs none.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from mosaic_gateway.lazy_names import lazy_names

if TYPE_CHECKING:
    from mosaic_gateway.engines.base import (
        ClusterMissingError,
        CpuUnsupportedError,
        Engine,
        EngineBusyError,
        EngineError,
        EngineStartError,
        ForeignClusterError,
        RuntimeMissingError,
        VectorMissingError,
    )
    from mosaic_gateway.engines.factory import engine_for
    from mosaic_gateway.engines.requirements import version_text
    from mosaic_gateway.engines.session import SEARCH_PATH, connect
else:
    __getattr__ = lazy_names(
        __name__,
        base=(
            "ClusterMissingError CpuUnsupportedError Engine EngineBusyError EngineError EngineStartError "
            "ForeignClusterError RuntimeMissingError VectorMissingError"
        ),
        factory="engine_for",
        requirements="version_text",
        session="SEARCH_PATH connect",
    )

__all__ = [
    "SEARCH_PATH",
    "ClusterMissingError",
    "CpuUnsupportedError",
    "Engine",
    "EngineBusyError",
    "EngineError",
    "EngineStartError",
    "ForeignClusterError",
    "RuntimeMissingError",
    "VectorMissingError",
    "connect",
    "engine_for",
    "version_text",
]
