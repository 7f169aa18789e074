"""The command line of ``doctor``."""

from __future__ import annotations

from pathlib import Path

import click

from mosaic_gateway.cli import Outcome, verb
from mosaic_gateway.installation import Home

__all__ = ["doctor"]


@click.command(short_help="Check an installation for faults.")
@click.option("--fix", is_flag=True, help="Repair what can be repaired safely.")
@click.option("--bundle", type=click.Path(path_type=Path), metavar="FILE", help="Also write a support archive to FILE.")
@verb("doctor")
def doctor(home: Home, *, fix: bool, bundle: Path | None) -> Outcome:
    """Check an installation for faults. The exit code is 0 if there is none, or none is left after --fix."""
    from mosaic_gateway_installer.checks.doctor import doctor as run

    return run(home, fix=fix, bundle=bundle.absolute() if bundle is not None else None)
