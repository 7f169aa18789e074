"""Preparation of a started engine for requests: verification, migration, and the record of the instance."""

from __future__ import annotations

import logging
import time

from mosaic_gateway import __version__
from mosaic_gateway.auth import accounts
from mosaic_gateway.auth.setup_tokens import setup_url
from mosaic_gateway.config import Config
from mosaic_gateway.engines.base import Engine
from mosaic_gateway.engines.session import connect
from mosaic_gateway.gateway.schema import migrations_locked, prepare_schema
from mosaic_gateway.migrations.advisory_lock import DEFAULT_LOCK_TIMEOUT
from mosaic_gateway.migrations.bundle import Bundle
from mosaic_gateway.storage.documents import DocumentStore

__all__ = ["first_link", "prepare"]

LOG = logging.getLogger(__name__)


def prepare(config: Config, engine: Engine, bundles: tuple[Bundle, ...], identity: str) -> None:
    """Verify *engine*, apply the pending migrations of *bundles*, and store *identity* and version.

    Raises PreflightError and the migration layer's errors.
    """
    report = engine.verify()
    LOG.info("Database: PostgreSQL %s, pgvector %s (%s)", report.server_version, report.vector_version, config.engine)
    if report.recovered is not None:
        LOG.warning("Recovered from a crash: %s", report.recovered)
    started = time.perf_counter()
    with migrations_locked(config, DEFAULT_LOCK_TIMEOUT):
        prepare_schema(bundles, engine.conninfo(), config.engine)
    LOG.info("Schema up to date after %.1f ms", (time.perf_counter() - started) * 1000)
    with connect(engine.conninfo(), application_name="mosaic-gateway storage") as connection:
        DocumentStore(connection).put("gateway", "instance", {"id": identity, "version": __version__})


def first_link(config: Config, engine: Engine) -> str | None:
    """Issue a set-up link and return its URL; None if there is an admin, or a valid link already."""
    conninfo = engine.conninfo()
    if not accounts.needs_setup(conninfo) or accounts.has_setup_token(conninfo):
        return None
    return setup_url(config.url, accounts.issue_setup_token(conninfo))
