"""Creates the engine that the configuration names."""

from __future__ import annotations

from mosaic_gateway.config import Config
from mosaic_gateway.engines.base import Engine
from mosaic_gateway.errors import UsageError
from mosaic_gateway.installation.engine_name import EngineName
from mosaic_gateway.installation.layout import check_layout
from mosaic_gateway.process.environment import process_environment

__all__ = ["engine_for"]


def engine_for(config: Config, *, published: bool = True) -> Engine:
    """Return the engine that *config* names, not yet started.

    *published*: whether other processes of the home may connect to it. Only PGlite, whose clients share one session,
    honours False. Raises `RuntimeMissingError` if the engine's programs are not installed, and what `find_node`
    raises; UsageError if the database URL is missing; HomeLayoutError.
    """
    # Imported here: each engine needs modules that the others do not.
    if config.engine is EngineName.SERVER:
        from mosaic_gateway.engines.server import ServerEngine  # noqa: PLC0415

        if config.database_url is None:
            raise UsageError(
                "The engine 'server' needs a database URL",
                hint="Give --database-url, or set MOSAIC_GATEWAY_DATABASE_URL or DATABASE_URL.",
            )
        return ServerEngine(config.database_url)
    check_layout(config.home)
    if config.engine is EngineName.PGLITE:
        return _pglite(config, published=published)
    from mosaic_gateway.engines.postgres.embedded import EmbeddedPostgres  # noqa: PLC0415
    from mosaic_gateway.engines.postgres.runtime import find_runtime  # noqa: PLC0415

    return EmbeddedPostgres(
        config.home,
        find_runtime(config.home, config.postgres_bin),
        log=config.home.logs / "postgres.log",
    )


def _pglite(config: Config, *, published: bool) -> Engine:
    from mosaic_gateway.engines.pglite.engine import Pglite  # noqa: PLC0415 - as above
    from mosaic_gateway.engines.pglite.npm_packages import shipped  # noqa: PLC0415
    from mosaic_gateway.engines.pglite.runtime import find_runtime  # noqa: PLC0415

    environ, shipped_files = process_environment(), shipped()
    runtime = find_runtime(config.home, config.pglite_dir, shipped=shipped_files, search_path=environ.get("PATH"))
    return Pglite(
        config.home,
        runtime,
        shipped=shipped_files,
        published=published,
    )
