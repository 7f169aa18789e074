"""The engine: is there a PostgreSQL with pgvector that a gateway can run on?"""

from __future__ import annotations

from mosaic_gateway.config import EngineName
from mosaic_gateway_installer.preflight.subject import Subject

__all__ = ["engine"]


def engine(subject: Subject) -> str:
    """Look for the programs, or ask the server. Raises what the engines raise."""
    config = subject.config
    if config.engine is EngineName.SERVER:
        from mosaic_gateway.engines.open import engine_for

        server = engine_for(config, account=None)
        server.start()
        report = server.verify()
        server.stop()
        return f"PostgreSQL {report.server_version} with pgvector {report.vector_version}"
    from mosaic_gateway.engines.postgres.runtime import install_runtime, locate_wheel

    if config.postgres_bin is None:
        return f"the PostgreSQL of {locate_wheel()}"
    # Nothing is copied, only examined.
    runtime = install_runtime(config.home, account=subject.account, postgres_bin=config.postgres_bin)
    return f"PostgreSQL {runtime.version} with pgvector in {runtime.bindir}"
