"""Prevents a start of a home's database while its files are copied, moved or removed."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext

from mosaic_gateway import fs
from mosaic_gateway.engines import pglite, postgres
from mosaic_gateway.installation import Home

__all__ = ["database_at_rest"]


@contextmanager
def database_at_rest(home: Home) -> Iterator[None]:
    """Hold the engine's lock inside the block, after ending database processes that a killed gateway has left.

    Raises `EngineBusyError` if another process runs the database. A missing ``run`` directory, where the lock file is,
    is created for the duration of the block.
    """
    created = not home.run.is_dir()
    fs.make_directory(home.run)
    lock = postgres.EngineLock(home)
    lock.acquire()
    try:
        cluster = postgres.cluster_of(home)
        if cluster is not None:
            postgres.end_processes(cluster, postgres.processes_of(cluster), None)
        # PGlite's lock file is data/pglite.lock, which homes of other engines do not have.
        with pglite.at_rest(home) if pglite.has_data(home) else nullcontext():
            yield
    finally:
        if created:
            _remove_run(home)
        lock.release()


def _remove_run(home: Home) -> None:
    for path in home.run.iterdir() if home.run.is_dir() else ():
        path.unlink()
    if home.run.is_dir():
        home.run.rmdir()
