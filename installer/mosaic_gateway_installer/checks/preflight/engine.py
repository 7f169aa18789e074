"""Check that the engine has PostgreSQL and pgvector in a supported version. `retained` checks existing data."""

from __future__ import annotations

from mosaic_gateway.installation.engine_name import EngineName
from mosaic_gateway_installer.checks.finding import Check
from mosaic_gateway_installer.checks.preflight.pglite import check_pglite
from mosaic_gateway_installer.checks.preflight.target import Subject

__all__ = ["CHECKS"]


def engine(subject: Subject) -> str:
    """Return the versions, from the programs or from the server. Raises the errors of the engines."""
    if subject.config.engine is EngineName.SERVER:
        return _server(subject)
    if subject.config.engine is EngineName.PGLITE:
        return check_pglite(subject.config)
    return _programs(subject)


def _server(subject: Subject) -> str:
    from mosaic_gateway.engines.factory import engine_for

    server = engine_for(subject.config)
    server.start()
    report = server.verify()
    server.stop()
    return f"PostgreSQL {report.server_version} with pgvector {report.vector_version}"


def _programs(subject: Subject) -> str:
    from mosaic_gateway.engines.postgres.runtime import examine_programs, examine_wheel

    bindir = subject.config.postgres_bin
    runtime, vector = examine_programs(bindir) if bindir is not None else examine_wheel()
    return f"PostgreSQL {runtime.version} with pgvector {vector} in {runtime.bindir}"


CHECKS: tuple[Check[Subject], ...] = (Check(id="engine", run=engine),)
