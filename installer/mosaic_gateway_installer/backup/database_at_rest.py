"""Prevents a start of a home's database while its files are copied, moved or removed."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext

from mosaic_gateway.engines.pglite.data import has_data
from mosaic_gateway.engines.postgres.cluster import cluster_of
from mosaic_gateway.engines.postgres.postmaster import end_processes, processes_of
from mosaic_gateway.fs.files import make_directory
from mosaic_gateway.installation.layout import Home

__all__ = ["database_at_rest"]


@contextmanager
def database_at_rest(home: Home) -> Iterator[None]:
    """Hold the engine's lock inside the block, after ending database processes that a killed gateway has left.

    Raises `EngineBusyError` if another process runs the database. A missing ``run`` directory, where the lock file is,
    is created for the duration of the block.
    """
    from mosaic_gateway.engines.pglite.engine_lock import at_rest  # imports psycopg, which most verbs do not need
    from mosaic_gateway.engines.postgres.engine_lock import EngineLock

    created = not home.run.is_dir()
    make_directory(home.run)
    lock = EngineLock(home)
    lock.acquire()
    try:
        cluster = cluster_of(home)
        if cluster is not None:
            end_processes(cluster, processes_of(cluster), None)
        # PGlite's lock file is data/pglite.lock, which homes of other engines do not have.
        with at_rest(home) if has_data(home) else nullcontext():
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
