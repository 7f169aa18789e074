"""Check that the engine has PostgreSQL and pgvector in a supported version. `retained` checks existing data."""

from __future__ import annotations

from mosaic_gateway.engines import postgres
from mosaic_gateway.installation import EngineName
from mosaic_gateway_installer.checks.finding import Check
from mosaic_gateway_installer.checks.preflight.pglite import check_pglite
from mosaic_gateway_installer.step import Target

__all__ = ["CHECKS"]


def engine(target: Target) -> str:
    """Return the versions, from the programs or from the server. Raises the errors of the engines."""
    if target.config.engine is EngineName.SERVER:
        return _server(target)
    if target.config.engine is EngineName.PGLITE:
        return check_pglite(target.config)
    return _programs(target)


def _server(target: Target) -> str:
    from mosaic_gateway.engines import engine_for

    server = engine_for(target.config)
    server.start()
    report = server.verify()
    server.stop()
    return f"PostgreSQL {report.server_version} with pgvector {report.vector_version}"


def _programs(target: Target) -> str:

    bindir = target.config.postgres_bin
    runtime, vector = postgres.examine_programs(bindir) if bindir is not None else postgres.examine_wheel()
    return f"PostgreSQL {runtime.version} with pgvector {vector} in {runtime.bindir}"


CHECKS: tuple[Check, ...] = (Check(id="engine", run=engine),)
