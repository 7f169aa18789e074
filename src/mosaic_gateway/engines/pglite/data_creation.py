"""Creation of a data directory: as a copy of this machine's template, or else by PGlite itself.

PGlite needs 4 to 5 seconds to create an empty database and then occupies 490 MB of memory; a copy takes a third of
a second. The process that creates a database also tests pgvector and then exits, so that the gateway's own sidecar
starts with little memory.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path

import psycopg

from mosaic_gateway import fs
from mosaic_gateway.engines.base import EngineStartError
from mosaic_gateway.engines.pglite.data import check_major, data_directory
from mosaic_gateway.engines.pglite.engine_lock import conninfo_of
from mosaic_gateway.engines.pglite.pinned_versions import Shipped
from mosaic_gateway.engines.pglite.runtime import PgliteRuntime, prepare
from mosaic_gateway.engines.pglite.self_test import APPLICATION, self_test_record
from mosaic_gateway.engines.pglite.sidecar_process import Sidecar
from mosaic_gateway.engines.pglite.sidecar_startup import (
    check_account,
    failure,
    open_sidecar,
    sidecar_command,
)
from mosaic_gateway.engines.pglite.template import Template, TemplateUnusableError
from mosaic_gateway.engines.postgres.self_test import run_self_test
from mosaic_gateway.engines.postgres.sockets import socket_path
from mosaic_gateway.engines.session import connect
from mosaic_gateway.installation.layout import Home
from mosaic_gateway.process.disk_full import OTHER_HOME, disk_full_as

__all__ = ["create_data", "create_database", "new_database"]

CREATION_LIMIT = 300.0  # seconds
CLOSE_LIMIT = 120.0  # seconds; usually 0.2, but the new database must be closed properly on a slow machine too
SHORT_PARENT = Path("/tmp")  # noqa: S108 - mkdtemp creates a private directory in it; a socket's path must be short


def create_data(home: Home, runtime: PgliteRuntime, *, shipped: Shipped, cache: Path) -> tuple[Path, ...]:
    """Create the data directory of *home* if it has none; return the paths created in *cache* (`Template.created`).

    Raises `ForeignClusterError` if anything else exists at its path, `UnfitAccountError`, `DiskFullError`,
    `PackagesMissingError`, `PackagesAlteredError`, `RuntimeMissingError`, EngineStartError, OSError.
    """
    check_account()
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
        self_test_record(home, shipped, runtime).write()
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
        command = sidecar_command(runtime, target, socket_path(sockets), brief=True)
        sidecar = Sidecar(command, log=log)
        sidecar.start()
        try:
            open_sidecar(sidecar, log, limit=CREATION_LIMIT)
            with closing(connect(conninfo_of(sockets), application_name=APPLICATION, connect_timeout=60)) as connection:
                run_self_test(connection)
        except psycopg.Error as error:
            raise failure(f"the test of pgvector in PGlite failed: {error}", sidecar, log) from error
        finally:
            sidecar.stop(CLOSE_LIMIT)
        if sidecar.event("stopped") is None:
            raise EngineStartError(
                f"PGlite did not exit properly after it had created {target} ({sidecar.ending()})",
                hint=f"The complete log: {log}",
            )
    finally:
        fs.remove_tree(sockets)
