"""What a verb needs of modules and of its own package, loaded before root is given up: afterwards it cannot be read."""

from __future__ import annotations

from contextlib import suppress
from importlib import import_module

__all__ = ["load"]

#: What verbs import when they run; a process that has given root up may not be able to read it any more.
FEW = (
    "ctypes",
    "encodings.ascii",
    "encodings.idna",
    "encodings.latin_1",
    "http.client",
    "mosaic_gateway.cli.process",
    "mosaic_gateway.engines.base",
    "mosaic_gateway.gateway.asking",
    "mosaic_gateway.gateway.control",
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
    "mosaic_gateway.auth.links",
    "mosaic_gateway.cli.auth",
    "mosaic_gateway.cli.bootstrap",
    "mosaic_gateway.engines.pglite.engine",
    "mosaic_gateway.engines.pglite.examination",
    "mosaic_gateway.engines.pglite.lock",
    "mosaic_gateway.engines.postgres.embedded",
    "mosaic_gateway.engines.server",
    "tempfile",
    "zoneinfo",
)
MIGRATIONS = (
    "glob",
    "importlib_resources.readers",
    "mosaic_gateway.cli.storage.group",
    "mosaic_gateway.engines.pglite.creation",
    "mosaic_gateway.engines.pglite.scratch",
    "mosaic_gateway.gateway.http",
    "mosaic_gateway.gateway.lifecycle",
    "mosaic_gateway.gateway.preparing",
    "mosaic_gateway.migrations.baseline",
    "mosaic_gateway.migrations.fingerprint",
    "mosaic_gateway.migrations.resolve",
    "mosaic_gateway.migrations.runner",
)
INSTALLER = (
    "mosaic_gateway.cli.config",
    "mosaic_gateway.cli.serve",
    "mosaic_gateway.engines.postgres.major",
    "mosaic_gateway_installer.commands",
    "mosaic_gateway_installer.smoke",
    "mosaic_gateway_installer.steps.fill",
    "mosaic_gateway_installer.steps.pglite",
    "mosaic_gateway_installer.upgrading.new_cluster",
    "mosaic_gateway_installer.upgrading.rollback",
    "mosaic_gateway_installer.verbs.install",
    "mosaic_gateway_installer.wishes",
    "packaging.requirements",
    "tomlkit",
)
DOCTOR = (
    "gzip",
    "mosaic_gateway_installer.checks.run",
    "mosaic_gateway_installer.smoke",
    "mosaic_gateway_installer.support",
    "mosaic_gateway_installer.verbs.doctor",
    "packaging.requirements",
    "tarfile",
    "tomlkit",
)
OTHER_VERBS = (
    "mosaic_gateway_installer.backup_commands",
    "mosaic_gateway_installer.upgrade_command",
    "mosaic_gateway_installer.verbs.backup.create",
    "mosaic_gateway_installer.verbs.backup.list",
    "mosaic_gateway_installer.verbs.backup.prune",
    "mosaic_gateway_installer.verbs.backup.restore",
    "mosaic_gateway_installer.verbs.backup.verify",
    "mosaic_gateway_installer.verbs.revert",
    "mosaic_gateway_installer.verbs.uninstall",
    "mosaic_gateway_installer.verbs.upgrade",
    "packaging.metadata",
)
#: First word of a verb → what it may import besides `FEW`; any other verb: all of it.
LOADED = {
    **dict.fromkeys(("start", "stop", "restart", "status", "logs"), ()),
    "config": ("mosaic_gateway.cli.config",),
    "serve": (*DATABASE, *MIGRATIONS),
    "auth": DATABASE,
    "bootstrap": DATABASE,
    "storage": (*DATABASE, *MIGRATIONS),
    "install": (*DATABASE, *MIGRATIONS, *INSTALLER),
    "doctor": (*DATABASE, *MIGRATIONS, *DOCTOR),
}
EVERYTHING = (*DATABASE, *MIGRATIONS, *INSTALLER, *DOCTOR, *OTHER_VERBS)


def load(verb: str) -> None:
    """Load what *verb* may need, for a process that will not be able to read it: modules, and what they read once."""
    first = verb.partition(" ")[0]
    for name in (*FEW, *LOADED.get(first, EVERYTHING)):
        import_module(name)
    if first == "serve":
        from mosaic_gateway.gateway.http import preload, preload_engines

        preload()
        preload_engines()
    if first == "storage":
        from mosaic_gateway.gateway.schema import load_bundles

        load_bundles()
    if first in {"install", "doctor"} or first not in LOADED:
        _read_package()


def _read_package() -> None:
    """Read what verbs keep of the package. What is missing is found missing again, and said, where it is needed."""
    from mosaic_gateway.engines.pglite.shipped import shipped
    from mosaic_gateway.engines.postgres.runtime import examine_wheel, locate_wheel, wheel_version
    from mosaic_gateway.engines.postgres.runtime_copy import size_of_copy
    from mosaic_gateway.errors import MosaicError
    from mosaic_gateway.gateway.schema import load_bundles
    from mosaic_gateway_installer.checks.picture import read_picture
    from mosaic_gateway_installer.snapshot.store import base_interpreter

    base_interpreter()
    for read in (load_bundles, shipped, read_picture, wheel_version, examine_wheel):
        with suppress(MosaicError, OSError):
            read()
    with suppress(MosaicError, OSError):
        size_of_copy(locate_wheel())
