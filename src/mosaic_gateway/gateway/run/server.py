"""The HTTP server (uvicorn) that runs the application, and the import of its modules ahead of time."""

from __future__ import annotations

import socket
from collections.abc import Callable
from typing import TYPE_CHECKING

from mosaic_gateway import __version__
from mosaic_gateway.config import Config, Secret
from mosaic_gateway.engines import pglite
from mosaic_gateway.installation.engine_name import EngineName
from mosaic_gateway.lazy_names import load
from mosaic_gateway.process.ports import bind_failure

if TYPE_CHECKING:
    from starlette.applications import Starlette

__all__ = ["preload", "preload_engine", "preload_engines", "serve_http"]

BACKLOG = 512
#: Modules otherwise imported on first use: once root privileges are dropped, an import may fail and cause a 500.
PRELOADED = (
    "anyio._backends._asyncio",
    "concurrent.futures.thread",
    "encodings.ascii",
    "encodings.idna",
    "encodings.latin_1",
    "encodings.utf_8_sig",
    "glob",
    "mosaic_gateway.engines.postgres.embedded",
    "mosaic_gateway.engines.server",
    "mosaic_gateway.fs",
    "mosaic_gateway.gateway.app",
    "mosaic_gateway.gateway.run.lifecycle",
    "mosaic_gateway.gateway.run.startup",
    "mosaic_gateway.cli.root",
    "mosaic_gateway.cli.serve",
    "mosaic_gateway.gateway.control.ready_pipe",
    "mosaic_gateway.gateway.control.service_notice",
    "mosaic_gateway.installation.upgrade_state",
    "mosaic_gateway.migrations.runner",
    "mosaic_gateway.gateway.database",
    "mosaic_gateway.storage.documents",
    "psutil",
    "stringprep",
    "uvicorn.lifespan.on",
    "uvicorn.loops.auto",
    "uvicorn.protocols.http.auto",
    "uvicorn.server",
)
GRACE = 5  # seconds for open requests to finish at shutdown


def preload(enough: Callable[[], bool] = lambda: False) -> None:
    """Import all that serving needs, because the process may not be able to read it later; stop if *enough*()."""
    for name in PRELOADED:
        if enough():
            return
        load(name)


def preload_engine(engine: EngineName) -> None:
    """Import the modules and read the files that only *engine* needs, for the same reason."""
    if engine is EngineName.PGLITE:
        load("mosaic_gateway.engines.pglite.engine")
        load("mosaic_gateway.engines.pglite.self_test")
        pglite.shipped()


def preload_engines() -> None:
    """Preload every engine and the bundles, before the home was read and its engine is known."""
    from mosaic_gateway.gateway.schema import load_bundles

    for engine in EngineName:
        preload_engine(engine)
    load_bundles()


def serve_http(
    config: Config, conninfo: str, listener: socket.socket, secret: Secret, identity: str, on_ready: Callable[[], None]
) -> None:
    """Serve the app on the bound *listener* until SIGTERM or SIGINT; call *on_ready* when requests are accepted.

    Raises `PortInUseError` if another process already listens on the port.
    """
    import asyncio

    import uvicorn

    from mosaic_gateway.gateway.app import Services, create_app
    from mosaic_gateway.gateway.database import make_pool
    from mosaic_gateway.gateway.web_settings import WebSettings

    try:
        listener.listen(BACKLOG)
    except OSError as error:
        raise bind_failure(config.host, config.port, error) from error

    async def main() -> None:
        services = Services(
            pool=make_pool(conninfo, config.engine),
            auth_secret=secret,
            web=WebSettings.of(config),
            version=__version__,
            instance_id=identity,
            engine=config.engine,
            home=config.home,
        )
        await _Server(_settings(create_app(services)), on_ready).serve(sockets=[listener])

    class _Server(uvicorn.Server):
        def __init__(self, settings: uvicorn.Config, on_ready: Callable[[], None]) -> None:
            super().__init__(settings)
            self._on_ready = on_ready

        async def startup(self, sockets: list[socket.socket] | None = None) -> None:
            await super().startup(sockets)
            if self.started:
                self._on_ready()

    def _settings(app: Starlette) -> uvicorn.Config:
        return uvicorn.Config(
            app, lifespan="on", ws="none", log_config=None, access_log=False, server_header=False, proxy_headers=False,
            timeout_graceful_shutdown=GRACE, backlog=BACKLOG,
        )  # fmt: skip

    asyncio.run(main())
