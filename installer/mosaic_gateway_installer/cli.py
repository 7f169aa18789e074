"""Entry point of the command ``mosaic-gateway``: the installer's verbs and the running gateway's."""

from __future__ import annotations

import sys

from mosaic_gateway.cli import RUNTIME_VERBS, Verbs, run

__all__ = ["VERBS", "main"]

_PACKAGE = "mosaic_gateway_installer"
VERBS: Verbs = {
    "install": (f"{_PACKAGE}.install.command", "install", "Install and start the gateway."),
    "upgrade": (f"{_PACKAGE}.upgrade.command", "upgrade", "Upgrade an installation to this or another version."),
    "uninstall": (f"{_PACKAGE}.uninstall.command", "uninstall", "Remove the programs and keep the data."),
    "backup": (f"{_PACKAGE}.backup.command", "backup", "Create, list, verify, restore and prune backups."),
    "doctor": (f"{_PACKAGE}.checks.command", "doctor", "Check an installation for faults."),
    **RUNTIME_VERBS,
}


def main() -> int:
    """Run the command line of this process and return its exit code."""
    from mosaic_gateway_installer.root.entry import RootSide
    from mosaic_gateway_installer.root.preload import load

    return run(VERBS, root_side=RootSide(), load=load)


if __name__ == "__main__":
    sys.exit(main())
