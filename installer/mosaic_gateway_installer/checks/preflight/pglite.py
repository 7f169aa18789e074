"""Check that the engine ``pglite`` can be installed on this machine, before any change."""

from __future__ import annotations

from mosaic_gateway.config import Config
from mosaic_gateway.engines import pglite
from mosaic_gateway.process import process_environment

__all__ = ["check_pglite"]


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
