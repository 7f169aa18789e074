"""What is in the database."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import psycopg
from psycopg.rows import TupleRow

from mosaic_gateway.config import EngineName
from mosaic_gateway.engines.base import EngineError
from mosaic_gateway.engines.open import engine_for
from mosaic_gateway.engines.postgres.lock import running_conninfo
from mosaic_gateway.engines.session import connect
from mosaic_gateway.errors import PreflightError
from mosaic_gateway.gateway.schema import load_bundles
from mosaic_gateway.migrations.runner import read_plan
from mosaic_gateway_installer.checks.patient import Patient
from mosaic_gateway_installer.findings import Check, NotCheckedError

__all__ = ["CHECKS"]


class SchemaPendingError(PreflightError):
    """Migrations are pending."""

    code = "SCHEMA_PENDING"


@contextmanager
def _session(patient: Patient) -> Iterator[psycopg.Connection[TupleRow]]:
    """Connect to the running database, whose refusals become findings; nothing is started."""
    conninfo = running_conninfo(patient.home)
    if patient.config.engine is EngineName.SERVER:
        engine = engine_for(patient.config, account=None)
        engine.start()
        engine.verify()
        conninfo = engine.conninfo()
    if conninfo is None:
        raise NotCheckedError("not checked: the database does not run")
    try:
        with connect(conninfo, application_name="mosaic-gateway doctor") as connection:
            yield connection
    except psycopg.Error as error:
        raise EngineError(
            f"the database cannot be asked: {error}", hint="Look at its log: mosaic-gateway logs"
        ) from None


def _schema(patient: Patient) -> str:
    with _session(patient) as connection:
        pending = [p.migration.tag for bundle in load_bundles() for p in read_plan(connection, bundle).pending]
    if pending:
        raise SchemaPendingError(f"pending: {', '.join(pending)}", hint="Run mosaic-gateway storage migrate.")
    return "every migration is applied"


CHECKS: tuple[Check[Patient], ...] = (Check(id="schema", run=_schema),)
