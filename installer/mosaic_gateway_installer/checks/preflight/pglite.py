"""Check that the engine ``pglite`` can be installed on this machine, before any change."""

from __future__ import annotations

from mosaic_gateway.config import Config
from mosaic_gateway.engines.pglite.node import find_node
from mosaic_gateway.engines.pglite.npm_packages import check_registry, modules_of, verify
from mosaic_gateway.engines.pglite.pinned_versions import shipped
from mosaic_gateway.engines.pglite.runtime import has_packages, node_for
from mosaic_gateway.process.environment import process_environment

__all__ = ["check_pglite"]


def check_pglite(config: Config) -> str:
    """Check Node.js and the npm packages, or that npm can fetch them; return their versions.

    Raises the errors of `find_node`, `NpmMissingError`, `RegistryError`, `PackagesMissingError`,
    `PackagesAlteredError`. Existing data is checked by `retained`.
    """
    environ = process_environment()
    path = environ.get("PATH")
    node = node_for(config.home, path)
    if config.pglite_dir is not None:
        verify(modules_of(config.pglite_dir, shipped()), shipped())
    elif not has_packages(config.home, None, shipped=shipped()):
        check_registry(shipped(), find_node(path), environ)
    return f"PGlite {shipped().pglite} on Node.js {node.version}"
