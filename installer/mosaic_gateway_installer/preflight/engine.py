"""The engine: PostgreSQL with pgvector that a gateway can run on (whether the data can, is for `retained`)."""

from __future__ import annotations

from mosaic_gateway.config import EngineName
from mosaic_gateway_installer.findings import Check
from mosaic_gateway_installer.preflight.subject import Subject

__all__ = ["CHECKS"]


def engine(subject: Subject) -> str:
    """Run the programs as far as they tell their version, or ask the server. Raises what the engines raise."""
    if subject.config.engine is EngineName.SERVER:
        return _server(subject)
    return _programs(subject)


def _server(subject: Subject) -> str:
    from mosaic_gateway.engines.open import engine_for

    server = engine_for(subject.config, account=None)
    server.start()
    report = server.verify()
    server.stop()
    return f"PostgreSQL {report.server_version} with pgvector {report.vector_version}"


def _programs(subject: Subject) -> str:
    from mosaic_gateway.engines.postgres.runtime import examine_programs, locate_wheel, wheel_binaries

    config = subject.config
    # The wheel's programs will be copied and belong to the account; the system's it must be able to run itself.
    bindir = config.postgres_bin or wheel_binaries(locate_wheel())
    runtime, vector = examine_programs(bindir, None if config.postgres_bin is None else subject.account)
    return f"PostgreSQL {runtime.version} with pgvector {vector} in {bindir}"


CHECKS: tuple[Check[Subject], ...] = (Check(id="engine", run=engine),)
