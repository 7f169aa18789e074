"""Check that the engine can be installed: PostgreSQL and pgvector in a supported version, or PGlite's programs.

`retained` checks existing data.
"""

from __future__ import annotations

from mosaic_gateway.config import Config
from mosaic_gateway.engines import pglite, postgres
from mosaic_gateway.installation import EngineName
from mosaic_gateway.process import process_environment
from mosaic_gateway_installer.checks.finding import Check
from mosaic_gateway_installer.step import Target

__all__ = ["CHECKS", "check_pglite"]


def check_pglite(config: Config) -> str:
    """Check Node.js and the npm packages, or that npm can fetch them; return their versions.

    Raises the errors of `find_node`, `NpmMissingError`, `RegistryError`, `PackagesMissingError`,
    `PackagesAlteredError`. Existing data is checked by `retained`.
    """
    environ = process_environment()
    path = environ.get("PATH")
    node = pglite.node_for(config.home, path)
    if config.pglite_dir is not None:
        pglite.verify(pglite.modules_of(config.pglite_dir, pglite.shipped()), pglite.shipped())
    elif not pglite.has_packages(config.home, None, shipped=pglite.shipped()):
        pglite.check_registry(pglite.shipped(), pglite.find_node(path), environ)
    return f"PGlite {pglite.shipped().pglite} on Node.js {node.version}"


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
