"""Creation of a data directory: as a copy of this machine's template, or else by PGlite itself.

A scratch database is a temporary, empty one for comparisons with the home's database.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path

import psycopg

from mosaic_gateway import fs
from mosaic_gateway.config import Config
from mosaic_gateway.engines.base import EngineStartError
from mosaic_gateway.engines.pglite import self_test, sidecar_process
from mosaic_gateway.engines.pglite.data_files import check_major, conninfo_of, data_directory
from mosaic_gateway.engines.pglite.npm_packages import Shipped, shipped
from mosaic_gateway.engines.pglite.runtime import PgliteRuntime, find_runtime, prepare
from mosaic_gateway.engines.pglite.template import Template, TemplateUnusableError
from mosaic_gateway.engines.postgres.configuration import socket_path
from mosaic_gateway.engines.postgres.self_test import run_self_test
from mosaic_gateway.engines.session import connect
from mosaic_gateway.installation.layout import Home
from mosaic_gateway.process.disk_full import OTHER_HOME, disk_full_as
from mosaic_gateway.process.environment import cache_directory, process_environment

__all__ = ["create_data", "create_database", "new_database", "scratch_database"]

CREATION_LIMIT = 300.0  # seconds
CLOSE_LIMIT = 120.0  # seconds; usually 0.2, but the new database must be closed properly on a slow machine too
SHORT_PARENT = Path("/tmp")  # noqa: S108 - mkdtemp creates a private directory in it; a socket's path must be short


def create_data(home: Home, runtime: PgliteRuntime, *, shipped: Shipped, cache: Path) -> tuple[Path, ...]:
    """Create the data directory of *home* if it has none; return the paths created in *cache* (`Template.created`).

    Raises `ForeignClusterError` if anything else exists at its path, `UnfitAccountError`, `DiskFullError`,
    `PackagesMissingError`, `PackagesAlteredError`, `RuntimeMissingError`, EngineStartError, OSError.
    """
    sidecar_process.check_account()
    target = data_directory(home)
    if target.exists():
        check_major(target)
        return ()
    prepare(home, runtime, shipped=shipped)
    fs.make_directory(home.data)
    fs.make_directory(home.logs)
    fs.remove_temporaries(home.data, f"{target.name}.")
    template = Template(cache, shipped, runtime.node)
    log = home.pglite_log
    with disk_full_as("a database (at least 60 MB)", home.data, hint=OTHER_HOME):
        with suppress(TemplateUnusableError):
            template.ensure(lambda directory: create_database(directory, runtime, log=log))
        with new_database(home.data, runtime, template=template, log=log) as data:
            fs.flush_tree(data)
            data.rename(target)
            fs.sync_directory(home.data)
    with suppress(OSError):  # the test is then run at the first start
        self_test.self_test_record(home, shipped, runtime).write()
    return template.created


@contextmanager
def new_database(parent: Path, runtime: PgliteRuntime, *, template: Template, log: Path) -> Iterator[Path]:
    """Yield a new data directory in *parent*, copied from *template* if it exists; removed after the block."""
    with fs.temporary(parent / "pglite") as data:
        try:
            template.copy(data)
        except TemplateUnusableError:
            fs.remove_tree(data)
            create_database(data, runtime, log=log)
        yield data


def create_database(target: Path, runtime: PgliteRuntime, *, log: Path) -> None:
    """Create an empty database in *target* with PGlite and test pgvector. Raises EngineStartError, OSError."""
    sockets = Path(tempfile.mkdtemp(prefix="mosaic-", dir=SHORT_PARENT))
    try:
        command = sidecar_process.sidecar_command(runtime, target, socket_path(sockets), brief=True)
        sidecar = sidecar_process.Sidecar(command, log=log)
        sidecar.start()
        try:
            sidecar_process.open_sidecar(sidecar, log, limit=CREATION_LIMIT)
            with closing(
                connect(conninfo_of(sockets), application_name=self_test.APPLICATION, connect_timeout=60)
            ) as connection:
                run_self_test(connection)
        except psycopg.Error as error:
            raise sidecar_process.failure(f"the test of pgvector in PGlite failed: {error}", sidecar, log) from error
        finally:
            sidecar.stop(CLOSE_LIMIT)
        if sidecar.event("stopped") is None:
            raise EngineStartError(
                f"PGlite did not exit properly after it had created {target} ({sidecar.ending()})",
                hint=f"The complete log: {log}",
            )
    finally:
        fs.remove_tree(sockets)


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
        sidecar = sidecar_process.Sidecar(
            sidecar_process.sidecar_command(runtime, data, socket_path(directory), brief=True), log=home.pglite_log
        )
        sidecar.start()
        try:
            sidecar_process.open_sidecar(sidecar, home.pglite_log)
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
