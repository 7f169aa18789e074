"""The command ``upgrade``: its options and their checks."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import click

from mosaic_gateway.cli import Outcome, verb
from mosaic_gateway.errors import UsageError
from mosaic_gateway.installation import Home, read_machine_record

__all__ = ["upgrade"]


def _run_other_package(home_path: Path, options: Mapping[str, Any]) -> int | None:
    """Run the upgrade with the package that --wheel or --version names, and return its exit code; None without one."""
    from mosaic_gateway_installer.upgrade.fetch import PackageSource

    abort, revert = bool(options["abort"]), bool(options["revert"])
    source = PackageSource(**{name: options[name] for name in ("wheel", "version", "find_links", "no_index")})
    if (abort or revert) and (source.given or options["no_backup"] or (abort and revert)):
        raise UsageError(
            "--abort and --revert exclude each other, and --wheel, --version and --no-backup",
            hint="Leave out one of the options.",
        )
    if options["accept_loss"] and not revert:
        raise UsageError("--accept-loss requires --revert", hint="Leave out --accept-loss, or add --revert.")
    if not source.given:
        return None
    from mosaic_gateway_installer.upgrade.verb import fetch_and_upgrade

    flags = {"--no-backup": "no_backup", "--dry-run": "dry_run", "--json": "as_json"}
    record = read_machine_record(home_path)
    home = Home(home_path, record.programs if record is not None else None)
    return fetch_and_upgrade(home, source, [flag for flag, name in flags.items() if options[name]])


@click.command(short_help="Upgrade an installation to this or another version.")
@click.option("--wheel", type=click.Path(path_type=Path), metavar="FILE", help="Upgrade to the version in this wheel.")
@click.option("--version", metavar="VERSION", help="Upgrade to this version from the package index.")
@click.option(
    "--find-links", multiple=True, metavar="LOCATION", help="Directory or URL where pip also searches for packages."
)
@click.option("--no-index", is_flag=True, help="Let pip search only in --find-links, not in the package index.")
@click.option("--no-backup", is_flag=True, help="Create no backup; the data then cannot be rolled back.")
@click.option("--abort", is_flag=True, help="Roll back an unfinished upgrade.")
@click.option("--revert", is_flag=True, help="Return to the version before the last upgrade, with its data.")
@click.option("--accept-loss", is_flag=True, help="With --revert: proceed even if later writes are lost.")
@click.option("--dry-run", is_flag=True, help="Only show what would be done.")
@verb("upgrade", passes_as_json=True, before=_run_other_package)
def upgrade(home: Home, *, no_backup: bool, dry_run: bool, as_json: bool, **options: Any) -> Outcome:
    """Upgrade the gateway to the version of this command, or to the one given by --wheel or --version.

    Data, secrets and settings are backed up first. If the upgrade fails or is interrupted, the previous version
    is started again with the previous data. If the upgrade is killed, run the same command again.
    """
    del as_json
    if options["revert"]:
        from mosaic_gateway_installer.upgrade.revert import revert

        return revert(home, accept_loss=bool(options["accept_loss"]), dry_run=dry_run)
    if options["abort"]:
        from mosaic_gateway_installer.upgrade.abort import abort

        return abort(home)
    from mosaic_gateway_installer.upgrade import verb as module

    return module.upgrade(home, backup=not no_backup, dry_run=dry_run)
