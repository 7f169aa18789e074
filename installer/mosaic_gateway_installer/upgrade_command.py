"""The verb ``upgrade`` as a command."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from mosaic_gateway.cli.envelope import Outcome
from mosaic_gateway.cli.verb import verb
from mosaic_gateway.config import Home
from mosaic_gateway.errors import UsageError

__all__ = ["upgrade"]


@click.command(short_help="Bring an installation to this version, or another.")
@click.option("--wheel", type=click.Path(path_type=Path), metavar="FILE", help="Take the version in this wheel.")
@click.option("--version", metavar="VERSION", help="Take this version, from the package index.")
@click.option("--find-links", multiple=True, metavar="PLACE", help="With those two: where pip looks as well.")
@click.option("--no-index", is_flag=True, help="With those two: pip looks nowhere else (no network).")
@click.option("--no-backup", is_flag=True, help="Make no backup: there is no way back for the data.")
@click.option("--abort", is_flag=True, help="Take back an upgrade that did not come to its end.")
@click.option("--dry-run", is_flag=True, help="Only say what would be done.")
@verb("upgrade", tells_form=True)
def upgrade(home: Home, *, no_backup: bool, abort: bool, dry_run: bool, as_json: bool, **wished: Any) -> Outcome:
    """Let the gateway run the version that this command is of, or the one that is named.

    Data, secrets and settings are backed up first. When anything fails, or is interrupted, the version before
    serves again with the data of before; an upgrade that was killed goes on when the command is run again.
    """
    from mosaic_gateway_installer.upgrading.fetch import Wish
    from mosaic_gateway_installer.verbs import upgrade as module

    wish = Wish(**wished)
    if not wish.given:
        return module.abort(home) if abort else module.upgrade(home, backup=not no_backup, dry_run=dry_run)
    if abort:
        raise UsageError("--abort goes with neither --wheel nor --version", hint="Leave them out.")
    flags = {"--no-backup": no_backup, "--dry-run": dry_run, "--json": as_json}
    # What it says has been shown by then.
    raise SystemExit(module.fetch_and_upgrade(home, wish, [name for name, given in flags.items() if given]))
