"""An engine that is up made ready for requests: verified, its schema complete, the gateway's own record in it."""

from __future__ import annotations

import logging
import time

from mosaic_gateway import __version__
from mosaic_gateway.auth import accounts
from mosaic_gateway.auth.links import setup_url
from mosaic_gateway.config import Config
from mosaic_gateway.engines.base import Engine
from mosaic_gateway.engines.session import connect
from mosaic_gateway.gateway.migration_file_lock import migration_file_lock
from mosaic_gateway.gateway.schema import prepare_schema
from mosaic_gateway.migrations.bundle import Bundle
from mosaic_gateway.migrations.lock import DEFAULT_LOCK_TIMEOUT
from mosaic_gateway.storage.documents import DocumentStore

__all__ = ["first_link", "prepare"]

LOG = logging.getLogger(__name__)


def prepare(config: Config, engine: Engine, bundles: tuple[Bundle, ...], identity: str) -> None:
    """Verify *engine*, bring both schemas up to date with *bundles*, and note who serves (*identity*).

    Raises PreflightError and the migration layer's errors.
    """
    report = engine.verify()
    LOG.info("Database: PostgreSQL %s, pgvector %s (%s)", report.server_version, report.vector_version, config.engine)
    if report.recovered is not None:
        LOG.warning("Cleared up after a crash: %s", report.recovered)
    checked = time.perf_counter()
    with migration_file_lock(config, DEFAULT_LOCK_TIMEOUT):
        prepare_schema(bundles, engine.conninfo(), config.engine)
    LOG.info("Schema up to date after %.1f ms", (time.perf_counter() - checked) * 1000)
    with connect(engine.conninfo(), application_name="mosaic-gateway storage") as connection:
        DocumentStore(connection).put("gateway", "instance", {"id": identity, "version": __version__})


def first_link(config: Config, engine: Engine) -> str | None:
    """Return a link for the first admin, None if there is an admin, or a link that still works."""
    conninfo = engine.conninfo()
    if not accounts.needs_setup(conninfo) or accounts.has_setup_token(conninfo):
        return None
    return setup_url(config.url, accounts.issue_setup_token(conninfo))
