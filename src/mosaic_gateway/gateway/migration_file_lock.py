"""One runner of migrations at a time in a home whose database cannot keep a second one away: PGlite's."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from mosaic_gateway.config import Config
from mosaic_gateway.installation.engine_name import EngineName
from mosaic_gateway.process.file_lock import FileLock, holder_of

__all__ = ["migration_file_lock"]


@contextmanager
def migration_file_lock(config: Config, timeout: float) -> Iterator[None]:
    """Keep other runners of *config*'s home away inside the block; wait at most *timeout* seconds for the turn.

    Does nothing for engines in whose database a lock can be held. Raises `MigrationsBusyError`, OSError.
    """
    if config.engine is not EngineName.PGLITE:
        yield
        return
    from mosaic_gateway.migrations.lock import MigrationsBusyError

    path = config.home.run / "migrations.lock"
    with FileLock(path) as lock:
        if not lock.acquire(timeout=timeout):
            holder = holder_of(path)
            pid = holder.pid if holder is not None else None
            raise MigrationsBusyError(
                f"another migration run holds the lock of {config.home.path}: process {pid or 'unknown'}",
                hint="Wait until it ends, then run the command again; end it only if you know that it hangs.",
                details={"pid": pid},
            )
        yield
