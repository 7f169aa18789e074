"""What a verb needs of modules and of its own package, loaded before root is given up: afterwards it cannot be read."""

from __future__ import annotations

from contextlib import suppress

from mosaic_gateway.cli import preload as runtime
from mosaic_gateway.cli.preload import DATABASE, MIGRATIONS

__all__ = ["load"]

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
#: First word of a verb → what it imports when it runs.
LOADED = {
    "install": (*DATABASE, *MIGRATIONS, *INSTALLER),
    "doctor": (*DATABASE, *MIGRATIONS, *DOCTOR),
    **dict.fromkeys(("upgrade", "uninstall", "backup"), (*DATABASE, *MIGRATIONS, *INSTALLER, *DOCTOR, *OTHER_VERBS)),
}


def load(verb: str) -> None:
    """Load what *verb* may need, for a process that will not be able to read it: modules, and what they read once."""
    first = verb.partition(" ")[0]
    if first not in LOADED:
        runtime.load(verb)
        return
    runtime.load_modules(LOADED[first])
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
