"""The lock file that admits one migration runner at a time to a PGlite home.

Other engines use an advisory lock in the database; PGlite runs all clients in one backend, where it has no effect.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from mosaic_gateway.config import Config
from mosaic_gateway.installation.engine_name import EngineName
from mosaic_gateway.process.file_lock import FileLock, holder_of

__all__ = ["migrations_locked"]


@contextmanager
def migrations_locked(config: Config, timeout: float) -> Iterator[None]:
    """Hold the migration lock of *config*'s home inside the block; wait at most *timeout* seconds for it.

    Does nothing for engines other than PGlite. Raises `MigrationsBusyError`, OSError.
    """
    if config.engine is not EngineName.PGLITE:
        yield
        return
    from mosaic_gateway.migrations.advisory_lock import MigrationsBusyError

    path = config.home.run / "migrations.lock"
    with FileLock(path) as lock:
        if not lock.acquire(timeout=timeout):
            holder = holder_of(path)
            pid = holder.pid if holder is not None else None
            raise MigrationsBusyError(
                f"another process runs migrations in {config.home.path}: process {pid or 'unknown'}",
                hint="Wait until it ends, then run the command again; terminate it only if it hangs.",
                details={"pid": pid},
            )
        yield
