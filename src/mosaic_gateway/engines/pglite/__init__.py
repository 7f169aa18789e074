"""Engine ``pglite``: PostgreSQL in WebAssembly, in one supervised Node.js process.

- The engine: `Pglite`, `running_conninfo`, `at_rest`; a database that is thrown away: `scratch_database`.
- Node.js and the npm packages: `find_node`, `find_runtime`, `install_runtime`, `shipped`, `verify`.
- The data directory: `data_of`, `create_data`, `check_major`, `has_template`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from mosaic_gateway.lazy_names import lazy_names

if TYPE_CHECKING:
    from mosaic_gateway.engines.pglite.data_creation import create_data, scratch_database
    from mosaic_gateway.engines.pglite.data_files import (
        MAJOR,
        at_rest,
        check_major,
        data_directory,
        data_of,
        has_data,
        running_conninfo,
    )
    from mosaic_gateway.engines.pglite.engine import Pglite
    from mosaic_gateway.engines.pglite.node import Node, find_node
    from mosaic_gateway.engines.pglite.npm_packages import check_registry, modules_of, shipped, verify
    from mosaic_gateway.engines.pglite.runtime import (
        find_runtime,
        has_packages,
        install_runtime,
        install_scripts,
        is_installed,
        node_for,
        recorded_binary,
        recorded_node,
        unused_programs,
        uses_extra,
    )
    from mosaic_gateway.engines.pglite.template import has_template, remove_template
else:
    __getattr__ = lazy_names(
        __name__,
        data_creation="create_data scratch_database",
        data_files="MAJOR at_rest check_major data_directory data_of has_data running_conninfo",
        engine="Pglite",
        node="Node find_node",
        npm_packages="check_registry modules_of shipped verify",
        runtime=(
            "find_runtime has_packages install_runtime install_scripts is_installed node_for recorded_binary "
            "recorded_node unused_programs uses_extra"
        ),
        template="has_template remove_template",
    )

__all__ = [
    "MAJOR",
    "Node",
    "Pglite",
    "at_rest",
    "check_major",
    "check_registry",
    "create_data",
    "data_directory",
    "data_of",
    "find_node",
    "find_runtime",
    "has_data",
    "has_packages",
    "has_template",
    "install_runtime",
    "install_scripts",
    "is_installed",
    "modules_of",
    "node_for",
    "recorded_binary",
    "recorded_node",
    "remove_template",
    "running_conninfo",
    "scratch_database",
    "shipped",
    "unused_programs",
    "uses_extra",
    "verify",
]
