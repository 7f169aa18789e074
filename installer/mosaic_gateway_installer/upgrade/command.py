"""The verb ``upgrade`` as a command."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import click

from mosaic_gateway.cli.envelope import Outcome
from mosaic_gateway.cli.verb import verb
from mosaic_gateway.errors import UsageError
from mosaic_gateway.installation.layout import Home
from mosaic_gateway.installation.machine_record import read_machine_record

__all__ = ["upgrade"]


def _run_other(place: Path, options: Mapping[str, Any]) -> int | None:
    """Have the package that the options name, if they name one, do the upgrade; return its exit code."""
    from mosaic_gateway_installer.upgrade.fetch import PackageSource

    abort, back = bool(options["abort"]), bool(options["revert"])
    source = PackageSource(**{name: options[name] for name in ("wheel", "version", "find_links", "no_index")})
    if (abort or back) and (source.given or options["no_backup"] or (abort and back)):
        raise UsageError(
            "--abort and --revert go with no other version, no --no-backup and not together", hint="Leave out one."
        )
    if options["accept_loss"] and not back:
        raise UsageError("--accept-loss goes with --revert", hint="Leave it out.")
    if not source.given:
        return None
    from mosaic_gateway_installer.upgrade.verb import fetch_and_upgrade

    flags = {"--no-backup": "no_backup", "--dry-run": "dry_run", "--json": "as_json"}
    record = read_machine_record(place)
    home = Home(place, record.programs if record is not None else None)
    return fetch_and_upgrade(home, source, [flag for flag, name in flags.items() if options[name]])


@click.command(short_help="Bring an installation to this version, or another.")
@click.option("--wheel", type=click.Path(path_type=Path), metavar="FILE", help="Take the version in this wheel.")
@click.option("--version", metavar="VERSION", help="Take this version, from the package index.")
@click.option("--find-links", multiple=True, metavar="PLACE", help="With those two: where pip looks as well.")
@click.option("--no-index", is_flag=True, help="With those two: pip looks nowhere else (no network).")
@click.option("--no-backup", is_flag=True, help="Make no backup: there is no way back for the data.")
@click.option("--abort", is_flag=True, help="Take back an upgrade that did not come to its end.")
@click.option("--revert", is_flag=True, help="Go back to the version before the last upgrade, with its data.")
@click.option("--accept-loss", is_flag=True, help="With --revert: also if something written since is lost.")
@click.option("--dry-run", is_flag=True, help="Only say what would be done.")
@verb("upgrade", passes_form=True, before=_run_other)
def upgrade(home: Home, *, no_backup: bool, dry_run: bool, as_json: bool, **options: Any) -> Outcome:
    """Let the gateway run the version that this command is of, or the one that is named.

    Data, secrets and settings are backed up first. When anything fails, or is interrupted, the version before
    serves again with the data of before; an upgrade that was killed goes on when the command is run again.
    """
    from mosaic_gateway_installer.upgrade import verb as module

    del as_json
    abort, back, accept_loss = (bool(options[name]) for name in ("abort", "revert", "accept_loss"))
    if back:
        from mosaic_gateway_installer.upgrade.revert import revert

        return revert(home, accept_loss=accept_loss, dry_run=dry_run)
    return module.abort(home) if abort else module.upgrade(home, backup=not no_backup, dry_run=dry_run)
