"""A temporary, empty PGlite database for comparisons with the home's database."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from mosaic_gateway.config import Config
from mosaic_gateway.engines.pglite.data_creation import SHORT_PARENT, new_database
from mosaic_gateway.engines.pglite.engine_lock import conninfo_of
from mosaic_gateway.engines.pglite.pinned_versions import shipped
from mosaic_gateway.engines.pglite.runtime import find_runtime
from mosaic_gateway.engines.pglite.sidecar_process import Sidecar
from mosaic_gateway.engines.pglite.sidecar_startup import open_sidecar, sidecar_command
from mosaic_gateway.engines.pglite.template import Template
from mosaic_gateway.engines.postgres.sockets import socket_path
from mosaic_gateway.process.environment import cache_directory, process_environment

__all__ = ["scratch_database"]


@contextmanager
def scratch_database(config: Config) -> Iterator[str]:
    """Yield the conninfo of an empty, private PGlite database, removed after the block.

    Raises what `create_data` raises.
    """
    home, environ, shipped_files = config.home, process_environment(), shipped()
    runtime = find_runtime(home, config.pglite_dir, shipped=shipped_files, search_path=environ.get("PATH"))
    template = Template(cache_directory(environ), shipped_files, runtime.node)
    with (
        _private_directory() as directory,
        new_database(directory, runtime, template=template, log=home.pglite_log) as data,
    ):
        sidecar = Sidecar(sidecar_command(runtime, data, socket_path(directory), brief=True), log=home.pglite_log)
        sidecar.start()
        try:
            open_sidecar(sidecar, home.pglite_log)
            yield conninfo_of(directory)
        finally:
            sidecar.stop()


@contextmanager
def _private_directory() -> Iterator[Path]:
    directory = tempfile.TemporaryDirectory(prefix="mosaic-", dir=SHORT_PARENT)
    try:
        yield Path(directory.name)
    finally:
        directory.cleanup()
