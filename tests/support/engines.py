"""Homes with an engine, and engines on them, created by the package's engine code."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from mosaic_gateway.engines.pglite import runtime as pglite_runtime
from mosaic_gateway.engines.pglite.data_creation import create_data
from mosaic_gateway.engines.pglite.engine import Pglite
from mosaic_gateway.engines.pglite.node import RegistryError, find_node
from mosaic_gateway.engines.pglite.npm_packages import shipped
from mosaic_gateway.engines.postgres.cluster import cluster_of, create_cluster
from mosaic_gateway.engines.postgres.embedded import EmbeddedPostgres
from mosaic_gateway.engines.postgres.runtime import Runtime, find_runtime, install_runtime
from mosaic_gateway.errors import PreflightError
from mosaic_gateway.installation.layout import Home


def provision_postgres(directory: Path) -> Home:
    """Create the embedded engine's runtime and cluster in *directory*, and start nothing."""
    home = Home(directory)
    create_cluster(home, install_runtime(home, postgres_bin=None))
    return home


def only_cluster(home: Home) -> Path:
    """Return the cluster of *home*, which must exist."""
    directory = cluster_of(home)
    assert directory is not None
    return directory


def embedded_engine(home: Home, runtime: Runtime | None, *, runtime_of: Home) -> EmbeddedPostgres:
    """Return an embedded engine on *home*, not started, with *runtime* or that of the home *runtime_of*."""
    return EmbeddedPostgres(
        home,
        runtime or find_runtime(runtime_of, None),
        log=home.logs / "postgres.log",
    )


def provision_pglite(directory: Path, cache: Path) -> Home:
    """Create PGlite's runtime and data in *directory*; skip the test without Node.js or if npm cannot fetch it."""
    try:
        find_node(os.environ.get("PATH"))
    except PreflightError as error:
        pytest.skip(f"no Node.js for PGlite: {error.message}")
    home = Home(directory)
    try:
        runtime = pglite_runtime.install_runtime(home, pglite_dir=None, shipped=shipped(), environ=os.environ)
    except RegistryError as error:
        pytest.skip(f"npm cannot fetch PGlite: {error.message}")
    create_data(home, runtime, shipped=shipped(), cache=cache)
    return home


def pglite_packages(home: Home) -> Path:
    """Return the directory of the packages that `provision_pglite` fetched into *home*."""
    return pglite_runtime.packages_directory(home, shipped())


def pglite_settings(home: Home, cache: Path) -> dict[str, str]:
    """Return the environment of an install on PGlite that uses packages of *home* and templates of *cache*."""
    return {
        "MOSAIC_GATEWAY_ENGINE": "pglite",
        "MOSAIC_GATEWAY_PGLITE_DIR": str(pglite_packages(home)),
        "MOSAIC_GATEWAY_CACHE": str(cache),
    }


def pglite_engine(home: Home, packages: Path, **options: Any) -> Pglite:
    """Return an engine on *home*, not started, that uses *packages* unless the home has its own."""
    runtime = pglite_runtime.find_runtime(home, packages, shipped=shipped(), search_path=os.environ.get("PATH"))
    return Pglite(home, runtime, shipped=shipped(), **options)
