"""A second, empty database beside the home's, for as long as something is compared with it."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from mosaic_gateway.config import Config, cache_directory, process_environment
from mosaic_gateway.engines.pglite.data_creation import SHORT, new_database
from mosaic_gateway.engines.pglite.engine_lock import conninfo_of
from mosaic_gateway.engines.pglite.pinned_versions import shipped
from mosaic_gateway.engines.pglite.runtime import find_runtime
from mosaic_gateway.engines.pglite.sidecar_process import Sidecar
from mosaic_gateway.engines.pglite.sidecar_startup import open_sidecar, sidecar_command
from mosaic_gateway.engines.pglite.template import Template
from mosaic_gateway.engines.postgres.sockets import socket_path

__all__ = ["scratch_database"]


@contextmanager
def scratch_database(config: Config) -> Iterator[str]:
    """Give the conninfo of an empty PGlite database, which is gone after the block; nobody else knows of it.

    Raises what `create_data` raises.
    """
    home, environ, brought = config.home, process_environment(), shipped()
    runtime = find_runtime(home, config.pglite_dir, shipped=brought, search_path=environ.get("PATH"))
    template = Template(cache_directory(environ), brought, runtime.node)
    with (
        _private_directory() as place,
        new_database(place, runtime, template=template, log=home.pglite_log) as data,
    ):
        sidecar = Sidecar(sidecar_command(runtime, data, socket_path(place), brief=True), log=home.pglite_log)
        sidecar.start()
        try:
            open_sidecar(sidecar, home.pglite_log)
            yield conninfo_of(place)
        finally:
            sidecar.stop()


@contextmanager
def _private_directory() -> Iterator[Path]:
    directory = tempfile.TemporaryDirectory(prefix="mosaic-", dir=SHORT)
    try:
        yield Path(directory.name)
    finally:
        directory.cleanup()
