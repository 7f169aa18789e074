"""Keeping a home's database at rest while its files are copied, moved or removed."""

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
    """Keep every other process from the home's database inside the block; what a dead gateway left of it is ended.

    Raises `EngineBusyError` where another process runs it. Where the home has no ``run`` directory none can,
    and it is created only for as long as the block.
    """
    from mosaic_gateway.engines.pglite.engine_lock import at_rest  # psycopg comes along, which most verbs do without
    from mosaic_gateway.engines.postgres.engine_lock import EngineLock

    created = not home.run.is_dir()
    make_directory(home.run)
    lock = EngineLock(home)
    lock.acquire()
    try:
        cluster = cluster_of(home)
        if cluster is not None:
            end_processes(cluster, processes_of(cluster), None)
        # Its lock lies among the data, where a home of another engine has none.
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
