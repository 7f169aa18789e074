"""A home's database for a while: through the gateway's engine if it runs, else started and stopped here."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from mosaic_gateway.config import Config, EngineName
from mosaic_gateway.engines.open import engine_for
from mosaic_gateway.process.account import Account

__all__ = ["open_database"]


@contextmanager
def open_database(config: Config, account: Account | None, *, verify: bool = True) -> Iterator[str]:
    """Give the conninfo of the home's database for the length of the block. Raises what the engine raises.

    Without *verify* the engine is not held against what a gateway needs: other schemas need less.
    """
    if config.engine is EngineName.POSTGRES:
        from mosaic_gateway.engines.postgres.lock import running_conninfo

        running = running_conninfo(config.home)
        if running is not None:
            yield running
            return
    engine = engine_for(config, account=account)
    try:
        engine.start()
        if verify:
            engine.verify()
        yield engine.conninfo()
    finally:
        engine.stop()
