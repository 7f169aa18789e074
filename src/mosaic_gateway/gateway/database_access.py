"""A home's database for a while: through the gateway's engine if it runs, else started and stopped here."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from mosaic_gateway.config import Config
from mosaic_gateway.engines.factory import engine_for
from mosaic_gateway.installation.engine_name import EngineName
from mosaic_gateway.installation.layout import Home

__all__ = ["OpenDatabase", "open_alone_if_idle", "open_database", "running_database"]


@dataclass(frozen=True, slots=True, kw_only=True)
class OpenDatabase:
    """A database that can be worked on. ``alone``: nobody else can reach it before we let it go."""

    conninfo: str
    alone: bool


@contextmanager
def open_database(config: Config, *, verify: bool = True) -> Iterator[str]:
    """Give the conninfo of the home's database for the length of the block. Raises what the engine raises.

    Without *verify* the engine is not held against what a gateway needs: other schemas need less.
    """
    with open_alone_if_idle(config, verify=verify) as opened:
        yield opened.conninfo


@contextmanager
def open_alone_if_idle(config: Config, *, verify: bool = True) -> Iterator[OpenDatabase]:
    """Do as `open_database`, and say whether the database is ours alone: where PGlite did not run before."""
    running = running_database(config.home, config.engine)
    if running is not None:
        yield OpenDatabase(conninfo=running, alone=False)
        return
    engine = engine_for(config, published=config.engine is not EngineName.PGLITE)
    try:
        engine.start()
        if verify:
            engine.verify()
        yield OpenDatabase(conninfo=engine.conninfo(), alone=config.engine is EngineName.PGLITE)
    finally:
        engine.stop()


def running_database(home: Home, engine: EngineName) -> str | None:
    """Return the conninfo of the database that another process runs for *home*; None: none does, or not one of ours."""
    if engine is EngineName.POSTGRES:
        from mosaic_gateway.engines.postgres.engine_lock import running_conninfo

        return running_conninfo(home)
    if engine is EngineName.PGLITE:
        from mosaic_gateway.engines.pglite import engine_lock

        return engine_lock.running_conninfo(home)
    return None
