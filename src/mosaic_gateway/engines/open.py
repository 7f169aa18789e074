"""From settings to the engine they name."""

from __future__ import annotations

from mosaic_gateway.config import Config, EngineName, process_environment, runtime_directory
from mosaic_gateway.engines.base import Engine
from mosaic_gateway.errors import UsageError
from mosaic_gateway.process.account import Account

__all__ = ["engine_for"]


def engine_for(config: Config, *, account: Account | None) -> Engine:
    """Return the engine that *config* names, not yet started; *account* owns the home (None: ourselves).

    Raises `RuntimeMissingError` where PostgreSQL's programs are not installed, UsageError where the
    database URL is missing.
    """
    # Imported here: each engine loads what the other does not need.
    if config.engine is EngineName.SERVER:
        from mosaic_gateway.engines.server import ServerEngine  # noqa: PLC0415

        if config.database_url is None:
            raise UsageError(
                "The engine 'server' needs a database URL",
                hint="Give --database-url, or set MOSAIC_GATEWAY_DATABASE_URL or DATABASE_URL.",
            )
        return ServerEngine(config.database_url)
    from mosaic_gateway.engines.postgres.embedded import EmbeddedPostgres  # noqa: PLC0415
    from mosaic_gateway.engines.postgres.runtime import find_runtime  # noqa: PLC0415

    return EmbeddedPostgres(
        config.home,
        find_runtime(config.home, config.postgres_bin, account=account),
        account=account,
        log=config.home.logs / "postgres.log",
        runtime_directory=runtime_directory(process_environment()),
    )
