"""The command ``mosaic-gateway``: the installer's verbs and those of the running gateway."""

from __future__ import annotations

import sys

from mosaic_gateway.cli.invocation import Verbs
from mosaic_gateway.cli.root import RUNTIME_VERBS, run

__all__ = ["VERBS", "main"]

_COMMANDS = "mosaic_gateway_installer.commands"
VERBS: Verbs = {
    "install": (_COMMANDS, "install", "Install, and start the gateway."),
    "upgrade": (
        "mosaic_gateway_installer.upgrade_command",
        "upgrade",
        "Bring an installation to this version, or another.",
    ),
    "uninstall": (_COMMANDS, "uninstall", "Remove the programs, keep the data."),
    "backup": ("mosaic_gateway_installer.backup_commands", "backup", "Backups: create, list, verify, restore, prune."),
    "doctor": (_COMMANDS, "doctor", "Look for faults of an installation."),
    **RUNTIME_VERBS,
}


def main() -> int:
    """Run the command line of this process and return its exit code."""
    from mosaic_gateway_installer.preload import load
    from mosaic_gateway_installer.root_side import RootSide

    return run(VERBS, root_side=RootSide(), load=load)


if __name__ == "__main__":
    sys.exit(main())
