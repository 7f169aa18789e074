"""Making a data directory: copied from a template that this machine made once, or else by PGlite itself.

PGlite takes 4 to 5 seconds for an empty database, and keeps 490 MB afterwards; a copy takes a third of a second.
Whatever PGlite makes, the process that made it also tests pgvector, and is ended: the gateway's own starts small.
"""

from __future__ import annotations

import re
import secrets
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path

import psycopg

from mosaic_gateway.engines.base import DiskFullError, EngineStartError
from mosaic_gateway.engines.pglite.data import check_major, data_directory
from mosaic_gateway.engines.pglite.engine_lock import conninfo_of
from mosaic_gateway.engines.pglite.pinned_versions import Shipped
from mosaic_gateway.engines.pglite.runtime import PgliteRuntime, prepare
from mosaic_gateway.engines.pglite.self_test import APPLICATION, self_test_record
from mosaic_gateway.engines.pglite.sidecar_process import Sidecar
from mosaic_gateway.engines.pglite.sidecar_startup import FULL, check_account, failure, open_sidecar, sidecar_command
from mosaic_gateway.engines.pglite.template import Template, TemplateUnusableError
from mosaic_gateway.engines.postgres.runtime import FULL_DISK
from mosaic_gateway.engines.postgres.self_test import run_self_test
from mosaic_gateway.engines.postgres.sockets import socket_path
from mosaic_gateway.engines.session import connect
from mosaic_gateway.fs.files import make_directory
from mosaic_gateway.fs.flush import flush_tree
from mosaic_gateway.installation.layout import Home

__all__ = ["create_data", "make_database", "new_database"]

CREATION_LIMIT = 300.0  # seconds
CLOSE_LIMIT = 120.0  # seconds; it takes a fifth of one, but what it has made must be closed however slow the machine is
TEMPORARY = re.compile(r"\.pglite\.[0-9a-f]{8}\.tmp")
SHORT = Path("/tmp")  # noqa: S108 - mkdtemp makes a private directory in it; a socket's path must be short


def create_data(home: Home, runtime: PgliteRuntime, *, shipped: Shipped, cache: Path) -> tuple[Path, ...]:
    """Make the data directory of *home* if it has none; return what was made for it in *cache* (`Template.created`).

    Raises `ForeignClusterError` where something else is in its place, `UnfitAccountError`, `DiskFullError`,
    `PackagesMissingError`, `PackagesAlteredError`, `RuntimeMissingError`, EngineStartError, OSError.
    """
    check_account()
    target = data_directory(home)
    if target.exists():
        check_major(target)
        return ()
    prepare(home, runtime, shipped=shipped)
    make_directory(home.data)
    make_directory(home.logs)
    for path in home.data.iterdir():  # what killed calls left
        if TEMPORARY.fullmatch(path.name):
            shutil.rmtree(path, ignore_errors=True)
    template = Template(cache, shipped, runtime.node)
    log = home.pglite_log
    with _translating_disk_full(home):
        with suppress(TemplateUnusableError):
            template.ensure(lambda place: make_database(place, runtime, log=log))
        with new_database(home.data, runtime, template=template, log=log) as data:
            flush_tree(data)
            data.rename(target)
            flush_tree(home.data)
    with suppress(OSError):  # it is tested at the first start then
        self_test_record(home, shipped, runtime).write()
    return template.created


@contextmanager
def new_database(parent: Path, runtime: PgliteRuntime, *, template: Template, log: Path) -> Iterator[Path]:
    """Give a new data directory in *parent*, copied from *template* if there is one; it goes with the block."""
    temporary = parent / f".pglite.{secrets.token_hex(4)}.tmp"
    try:
        try:
            template.copy(temporary)
        except TemplateUnusableError:
            shutil.rmtree(temporary, ignore_errors=True)
            make_database(temporary, runtime, log=log)
        yield temporary
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def make_database(target: Path, runtime: PgliteRuntime, *, log: Path) -> None:
    """Have PGlite make an empty database in *target*, test pgvector, and end. Raises EngineStartError, OSError."""
    sockets = Path(tempfile.mkdtemp(prefix="mosaic-", dir=SHORT))
    try:
        command = sidecar_command(runtime, target, socket_path(sockets), brief=True)
        sidecar = Sidecar(command, log=log)
        sidecar.start()
        try:
            open_sidecar(sidecar, log, limit=CREATION_LIMIT)
            with closing(connect(conninfo_of(sockets), application_name=APPLICATION, connect_timeout=60)) as connection:
                run_self_test(connection)
        except psycopg.Error as error:
            raise failure(f"pgvector does not do what it must in PGlite: {error}", sidecar, log) from error
        finally:
            sidecar.stop(CLOSE_LIMIT)
        if sidecar.event("stopped") is None:
            raise EngineStartError(
                f"PGlite did not end as it should after it had made {target} ({sidecar.ending()})",
                hint=f"The whole log: {log}",
            )
    finally:
        shutil.rmtree(sockets, ignore_errors=True)


@contextmanager
def _translating_disk_full(home: Home) -> Iterator[None]:
    try:
        yield
    except (OSError, EngineStartError) as error:
        full = error.errno in FULL_DISK if isinstance(error, OSError) else any(word in error.message for word in FULL)
        if not full:
            raise
        raise DiskFullError(
            f"There is no room for a database (at least 60 MB) in {home.data}",
            hint="Free some space there, or choose another --home, then try again.",
        ) from error
