"""Imports what a verb needs before root privileges are dropped; the account may not be able to read the modules."""

from __future__ import annotations

from mosaic_gateway.lazy_names import load as load_module

__all__ = ["DATABASE", "MIGRATIONS", "load", "load_modules"]

#: Modules that every verb imports when it runs.
ALL_VERBS = (
    "ctypes",
    "encodings.ascii",
    "encodings.idna",
    "encodings.latin_1",
    "http.client",
    "mosaic_gateway.cli.gateway",
    "mosaic_gateway.engines.base",
    "mosaic_gateway.gateway.local_client",
    "mosaic_gateway.gateway.control.gateway_process",
    "mosaic_gateway.installation",
    "difflib",
    "packaging.version",
    "platformdirs",
    "psutil",
    "socket",
    "stringprep",
    "traceback",
)
DATABASE = (
    "concurrent.futures.thread",
    "locale",
    "mosaic_gateway.auth.accounts",
    "mosaic_gateway.auth.reset_tokens",
    "mosaic_gateway.auth.setup_tokens",
    "mosaic_gateway.cli.auth.sessions",
    "mosaic_gateway.cli.auth.tokens",
    "mosaic_gateway.cli.auth.users",
    "mosaic_gateway.cli.bootstrap",
    "mosaic_gateway.engines.pglite.engine",
    "mosaic_gateway.engines.pglite.self_test",
    "mosaic_gateway.engines.pglite.data_files",
    "mosaic_gateway.engines.postgres.embedded",
    "mosaic_gateway.engines.server",
    "mosaic_gateway.fs",
    "tempfile",
    "zoneinfo",
)
MIGRATIONS = (
    "glob",
    "importlib_resources.readers",
    "mosaic_gateway.cli.storage.group",
    "mosaic_gateway.engines.pglite.data_creation",
    "mosaic_gateway.gateway.run.server",
    "mosaic_gateway.gateway.run.lifecycle",
    "mosaic_gateway.gateway.run.startup",
    "mosaic_gateway.migrations.baselining",
    "mosaic_gateway.migrations.schema_fingerprint",
    "mosaic_gateway.migrations.resolution",
    "mosaic_gateway.migrations.runner",
)
#: First word of a verb → further modules that it imports.
LOADED = {
    "config": ("mosaic_gateway.cli.config",),
    "serve": (*DATABASE, *MIGRATIONS),
    "auth": DATABASE,
    "bootstrap": DATABASE,
    "storage": (*DATABASE, *MIGRATIONS),
}


def load(verb: str) -> None:
    """Import the modules of *verb*, a verb of the runtime, and load the data that they cache."""
    first = verb.partition(" ")[0]
    load_modules(LOADED.get(first, ()))
    if first == "serve":
        from mosaic_gateway.gateway.run.server import preload, preload_engines

        preload()
        preload_engines()
    if first == "storage":
        from mosaic_gateway.gateway.schema import load_bundles

        load_bundles()


def load_modules(names: tuple[str, ...]) -> None:
    """Import *names* and the modules of every verb."""
    for name in (*ALL_VERBS, *names):
        load_module(name)
