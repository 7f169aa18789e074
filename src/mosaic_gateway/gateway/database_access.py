"""Access to a home's database: through the running gateway's engine, else by starting and stopping the engine."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from mosaic_gateway.config import Config
from mosaic_gateway.engines import pglite, postgres
from mosaic_gateway.engines.factory import engine_for
from mosaic_gateway.installation.engine_name import EngineName
from mosaic_gateway.installation.layout import Home

__all__ = ["OpenDatabase", "open_alone_if_idle", "open_database", "running_database"]


@dataclass(frozen=True, slots=True, kw_only=True)
class OpenDatabase:
    """A database that accepts connections. ``alone``: no other process can connect to it before the block ends."""

    conninfo: str
    alone: bool


@contextmanager
def open_database(config: Config, *, verify: bool = True) -> Iterator[str]:
    """Yield the conninfo of the home's database. Raises what the engine raises.

    Without *verify* the engine is not verified against the gateway's requirements: other schemas need less.
    """
    with open_alone_if_idle(config, verify=verify) as opened:
        yield opened.conninfo


@contextmanager
def open_alone_if_idle(config: Config, *, verify: bool = True) -> Iterator[OpenDatabase]:
    """Do as `open_database`; ``alone`` is true if this call started PGlite, which then has no other clients."""
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
    """Return the conninfo of the embedded engine that another process runs for *home*, None if there is none."""
    if engine is EngineName.POSTGRES:
        return postgres.running_conninfo(home)
    if engine is EngineName.PGLITE:
        return pglite.running_conninfo(home)
    return None
