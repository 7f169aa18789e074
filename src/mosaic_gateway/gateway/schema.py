"""Migration of a database with the packaged bundles, used by the gateway and the command line alike.

On PGlite a lock file admits one migration runner at a time. Other engines use an advisory lock in the database; PGlite
runs all clients in one backend, where it has no effect.
"""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from typing import TYPE_CHECKING, Any

from mosaic_gateway.config import Config
from mosaic_gateway.installation.engine_name import EngineName
from mosaic_gateway.migrations.bundle import Bundle
from mosaic_gateway.migrations.model import MigrationReport
from mosaic_gateway.process.file_lock import FileLock, holder_of

if TYPE_CHECKING:
    import psycopg

    from mosaic_gateway.migrations.events import Event

__all__ = ["BUNDLE_NAMES", "apply_bundles", "load_bundles", "migrations_locked", "prepare_schema", "schema_digest"]

LOG = logging.getLogger(__name__)
#: In the order in which they are applied.
BUNDLE_NAMES = ("gateway", "storage")
MESSAGES = {
    "gateway": "Applying schema migrations (%s)…",
    "storage": "Initializing storage adapter (%s)…",
}
OTHER = "Applying migrations (%s)…"


@cache
def load_bundles() -> tuple[Bundle, ...]:
    """Return the packaged bundles, every hash checked; read once. Raises `BundleError`."""
    return tuple(Bundle.load(name) for name in BUNDLE_NAMES)


def prepare_schema(
    bundles: tuple[Bundle, ...],
    conninfo: str,
    engine: EngineName,
    *,
    lock_timeout: float = 60.0,
    on_event: Callable[[Event], None] | None = None,
) -> tuple[MigrationReport, ...]:
    """Apply the pending migrations of *bundles*, in the order given. Raises what `migrate` raises.

    All bundles are checked before anything is written.
    """
    from mosaic_gateway.engines.session import connect
    from mosaic_gateway.migrations.session_settings import migration_session_if_direct

    with (
        connect(conninfo, application_name="mosaic-gateway migrate") as connection,
        migration_session_if_direct(connection),
    ):
        return apply_bundles(bundles, connection, engine, lock_timeout=lock_timeout, on_event=on_event)


def apply_bundles(
    bundles: tuple[Bundle, ...],
    connection: psycopg.Connection[Any],
    engine: EngineName,
    *,
    lock_timeout: float = 60.0,
    alone: bool = False,
    on_event: Callable[[Event], None] | None = None,
) -> tuple[MigrationReport, ...]:
    """Do as `prepare_schema` on an open *connection*; *alone* is passed to `migrate`."""
    from mosaic_gateway.migrations.ledger import is_up_to_date

    up_to_date = all(is_up_to_date(connection, bundle) for bundle in bundles)
    if not up_to_date:  # the runner and the plan, with all that they import, are not needed otherwise
        _check_all(connection, bundles)
    reports = []
    for bundle in bundles:
        LOG.info(MESSAGES.get(bundle.name, OTHER), engine)
        if up_to_date:
            report = MigrationReport(bundle=bundle.name, applied=(), already_applied=len(bundle.migrations))
        else:
            from mosaic_gateway.migrations.runner import migrate

            report = migrate(bundle, connection, lock_timeout=lock_timeout, alone=alone, on_event=on_event)
        LOG.info("%s: %d migrations applied now, %d before", bundle.name, len(report.applied), report.already_applied)
        reports.append(report)
    return tuple(reports)


def _check_all(connection: psycopg.Connection[Any], bundles: tuple[Bundle, ...]) -> None:
    from mosaic_gateway.migrations.runner import read_plan

    for bundle in bundles:
        read_plan(connection, bundle)


def schema_digest(bundles: tuple[Bundle, ...]) -> str:
    """Return a digest of all migrations of *bundles*, for comparing the schemas of two packages."""
    digest = hashlib.sha256()
    for bundle in bundles:
        digest.update("".join((bundle.name, *(migration.hash for migration in bundle.migrations))).encode())
    return digest.hexdigest()


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
