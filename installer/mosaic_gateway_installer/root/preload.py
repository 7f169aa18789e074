"""Loading of a verb's modules and package data before the worker drops root: afterwards it may not be able to."""

from __future__ import annotations

from contextlib import suppress

from mosaic_gateway.cli import preload as runtime
from mosaic_gateway.cli.preload import DATABASE, MIGRATIONS

__all__ = ["load"]

INSTALLER = (
    "mosaic_gateway.cli.config",
    "mosaic_gateway.cli.serve",
    "mosaic_gateway.engines.postgres.major_upgrade",
    "mosaic_gateway_installer.install.command",
    "mosaic_gateway_installer.install.smoke_test",
    "mosaic_gateway_installer.backup.creation",
    "mosaic_gateway_installer.backup.dump_restore_step",
    "mosaic_gateway_installer.install.steps.pglite",
    "mosaic_gateway_installer.upgrade.new_cluster",
    "mosaic_gateway_installer.upgrade.unfinished",
    "mosaic_gateway_installer.install.verb",
    "mosaic_gateway_installer.install.plan",
    "packaging.requirements",
    "tomlkit",
)
DOCTOR = (
    "gzip",
    "mosaic_gateway_installer.checks.command",
    "mosaic_gateway_installer.checks.doctor",
    "mosaic_gateway_installer.install.smoke_test",
    "mosaic_gateway_installer.checks.support_archive",
    "packaging.requirements",
    "tarfile",
    "tomlkit",
)
OTHER_VERBS = (
    "mosaic_gateway_installer.upgrade.abort",
    "mosaic_gateway_installer.backup.command",
    "mosaic_gateway_installer.upgrade.command",
    "mosaic_gateway_installer.backup.verbs",
    "mosaic_gateway_installer.backup.restore",
    "mosaic_gateway_installer.upgrade.unfinished",
    "mosaic_gateway_installer.upgrade.revert",
    "mosaic_gateway_installer.uninstall.command",
    "mosaic_gateway_installer.uninstall.verb",
    "mosaic_gateway_installer.upgrade.verb",
    "packaging.metadata",
)
#: First word of a verb → the modules that it imports when it runs.
LOADED = {
    "install": (*DATABASE, *MIGRATIONS, *INSTALLER),
    "doctor": (*DATABASE, *MIGRATIONS, *DOCTOR),
    **dict.fromkeys(("upgrade", "uninstall", "backup"), (*DATABASE, *MIGRATIONS, *INSTALLER, *DOCTOR, *OTHER_VERBS)),
}


def load(verb: str) -> None:
    """Load the modules that *verb* may import and the package data that they cache."""
    first = verb.partition(" ")[0]
    if first not in LOADED:
        runtime.load(verb)
        return
    runtime.load_modules(LOADED[first])
    _read_package()


def _read_package() -> None:
    """Read the package data that verbs cache. Errors are ignored here: the code that needs the data raises them."""
    from mosaic_gateway.engines import pglite, postgres
    from mosaic_gateway.errors import MosaicError
    from mosaic_gateway.gateway import load_bundles
    from mosaic_gateway_installer.checks.schema_snapshot import read_schema_snapshot
    from mosaic_gateway_installer.program_copy.store import base_interpreter

    base_interpreter()
    for read in (load_bundles, pglite.shipped, read_schema_snapshot, postgres.wheel_version, postgres.examine_wheel):
        with suppress(MosaicError, OSError):
            read()
    with suppress(MosaicError, OSError):
        postgres.size_of_copy(postgres.locate_wheel())
