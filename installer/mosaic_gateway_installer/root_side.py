"""Root's side of the command: whose home it is, what root makes for it first, and the process that runs the verb.

Root looks at the path of the home, at its own record, and at nothing in the home. A verb on an account's home runs as
that account; where there is no home yet, or no installation, as a user without rights, who can look and change nothing.
Before a new installation its checks run so; then root notes what it is about to make, makes the account, the empty home
and the directory of programs, and lets the account install. What root has made goes again if that fails.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import ExitStack
from importlib import import_module
from pathlib import Path
from typing import Any

from mosaic_gateway.cli.invocation import Invocation

__all__ = ["RootSide", "load"]

#: Verbs that make an installation where there is none.
CREATING = frozenset({"install", "backup restore"})
#: Verbs that change an installation so that root's record must be there first.
TAKING_OVER = frozenset({"install", "upgrade", "uninstall", "backup restore"})
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
    "mosaic_gateway.engines.pglite.examination",
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
    "packaging.requirements",
    "tomlkit",
)
OTHER_VERBS = (
    "gzip",
    "mosaic_gateway_installer.backup_commands",
    "mosaic_gateway_installer.checks.run",
    "mosaic_gateway_installer.support",
    "mosaic_gateway_installer.upgrade_command",
    "mosaic_gateway_installer.verbs.backup.create",
    "mosaic_gateway_installer.verbs.backup.list",
    "mosaic_gateway_installer.verbs.backup.prune",
    "mosaic_gateway_installer.verbs.backup.restore",
    "mosaic_gateway_installer.verbs.backup.verify",
    "mosaic_gateway_installer.verbs.doctor",
    "mosaic_gateway_installer.verbs.revert",
    "mosaic_gateway_installer.verbs.uninstall",
    "mosaic_gateway_installer.verbs.upgrade",
    "tarfile",
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
}
EVERYTHING = (*DATABASE, *MIGRATIONS, *INSTALLER, *OTHER_VERBS)


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
    if first == "install" or first not in LOADED:
        from mosaic_gateway_installer.preload import read_package

        read_package()


class RootSide:
    """Runs a verb as the owner of its home, with a broker at its side; implements ``RootSide``."""

    def run(self, invocation: Invocation, verb: str, home: Path, options: Mapping[str, Any]) -> int:
        """Run it; see ``mosaic_gateway.cli.invocation.RootSide.run``."""
        from mosaic_gateway.process.trusted_path import find_path
        from mosaic_gateway_installer.root_session import Session, unusable

        with ExitStack() as stack:
            try:
                found = stack.enter_context(find_path(home))
            except OSError as error:
                raise unusable(home, error) from error
            session = Session(invocation, verb, found, options)
            if found.owner and found.is_directory:
                return session.run_as(session.owner())
            if verb in CREATING and not options.get("dry_run"):
                return session.create()
            planned = session.plan() if verb in CREATING else None
            if verb == "uninstall" and found.status is None and session.forget():
                return 0
            return session.look(planned)
