"""Entry point of the command ``mosaic-gateway``: the installer's verbs and the running gateway's.

If root calls it, it finds the home's owner and runs the verb as that account (`RootSide`).
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from mosaic_gateway.cli import RUNTIME_VERBS, Invocation, Verbs, run

__all__ = ["VERBS", "RootSide", "main"]

#: Verbs that create an installation if there is none.
CREATING = frozenset({"install", "backup restore"})
_PACKAGE = "mosaic_gateway_installer"
VERBS: Verbs = {
    "install": (f"{_PACKAGE}.install.command", "install", "Install and start the gateway."),
    "upgrade": (f"{_PACKAGE}.upgrade.command", "upgrade", "Upgrade an installation to this or another version."),
    "uninstall": (f"{_PACKAGE}.uninstall.command", "uninstall", "Remove the programs and keep the data."),
    "backup": (f"{_PACKAGE}.backup.command", "backup", "Create, list, verify, restore and prune backups."),
    "doctor": (f"{_PACKAGE}.checks.command", "doctor", "Check an installation for faults."),
    **RUNTIME_VERBS,
}


class RootSide:
    """Runs a verb as the owner of its home, with a broker; implements ``mosaic_gateway.cli.invocation.RootSide``."""

    def run(self, invocation: Invocation, verb: str, home: Path, options: Mapping[str, Any]) -> int:
        """Run *verb*; see ``mosaic_gateway.cli.invocation.RootSide.run``."""
        from mosaic_gateway.process import find_path
        from mosaic_gateway_installer.root.session import RootSession, unusable

        with ExitStack() as stack:
            try:
                found = stack.enter_context(find_path(home))
            except OSError as error:
                raise unusable(home, error) from error
            session = RootSession(invocation, verb, found, options)
            if found.owner and found.is_directory:
                return session.run_as(session.owner())
            if verb in CREATING and not options.get("dry_run"):
                return session.create()
            planned = session.plan() if verb in CREATING else None
            if verb == "uninstall" and found.status is None and session.complete_purge():
                return 0
            return session.run_read_only(planned)


def main(started_as: str | None = None) -> int:
    """Run the command line of this process and return its exit code; *started_as* as in `run`."""
    from mosaic_gateway_installer.root.preload import load

    return run(VERBS, root_side=RootSide(), load=load, started_as=started_as)


if __name__ == "__main__":
    sys.exit(main())
