"""The gateway process: start-up, serving and shutdown (`lifecycle`), and its address (`listener_for`).

`DESCRIPTORS` is the number of open files that it uses at most.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from mosaic_gateway.lazy_names import lazy_names

if TYPE_CHECKING:
    from mosaic_gateway.gateway.run import lifecycle
    from mosaic_gateway.gateway.run.http_limits import DESCRIPTORS
    from mosaic_gateway.gateway.run.listener import listener_for
    from mosaic_gateway.gateway.run.server import preload, preload_engines
else:
    __getattr__ = lazy_names(
        __name__,
        "lifecycle",
        http_limits="DESCRIPTORS",
        listener="listener_for",
        server="preload preload_engines",
    )

__all__ = ["DESCRIPTORS", "lifecycle", "listener_for", "preload", "preload_engines"]
