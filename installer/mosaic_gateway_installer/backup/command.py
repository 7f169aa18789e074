"""The command group ``backup``: its commands and their options."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

import click

from mosaic_gateway.cli import LazyGroup, Outcome, verb
from mosaic_gateway.config import default_home
from mosaic_gateway.installation import Home
from mosaic_gateway.process import process_environment
from mosaic_gateway_installer.backup.stored_backups import backups_of

__all__ = ["backup", "create", "list_", "prune", "restore", "verify"]

_MODULE = "mosaic_gateway_installer.backup.command"
VERBS: Mapping[str, tuple[str, str, str]] = {
    "create": (_MODULE, "create", "Back up data, secrets and settings, also while the gateway serves."),
    "list": (_MODULE, "list_", "List the backups."),
    "verify": (_MODULE, "verify", "Verify a backup by a trial restore."),
    "restore": (_MODULE, "restore", "Replace the present data by a backup, or restore it into an empty home."),
    "prune": (_MODULE, "prune", "Remove old backups, never the last verified one."),
}
DIRECTORY = click.Path(path_type=Path, file_okay=False)

backup = LazyGroup("backup", commands_at=VERBS, help="Create, list, verify, restore and prune backups.")


def _names(context: click.Context, _parameter: click.Parameter, incomplete: str) -> list[str]:
    """Return the names of the home's backups for a shell's completion; none for root, which reads no user's home."""
    home = context.params.get("home") or default_home(process_environment())
    names = () if os.geteuid() == 0 else (path.name for path in backups_of(Home(Path(home))).glob("[0-9]*"))
    return [name for name in (*sorted(names, reverse=True), "latest") if name.startswith(incomplete)]


@click.command(short_help="Back up data, secrets and settings, also while the gateway serves.")
@click.option("--to", "directory", type=DIRECTORY, metavar="DIR", help="Write the backup to DIR, not into the home.")
@click.option("--verify", "check", is_flag=True, help="Verify the new backup.")
@verb("backup create")
def create(home: Home, *, directory: Path | None, check: bool) -> Outcome:
    """Back up data, secrets and settings into a new directory.

    The gateway serves meanwhile; with the engine pglite it is stopped during the copy.
    """
    from mosaic_gateway_installer.backup.verbs import create as run

    return run(home, directory=directory, check=check)


@click.command("list", short_help="List the backups.")
@click.option("--in", "directory", type=DIRECTORY, metavar="DIR", help="List the backups in DIR, not the home's.")
@verb("backup list")
def list_(home: Home, *, directory: Path | None) -> Outcome:
    """List the backups, newest first."""
    from mosaic_gateway_installer.backup.verbs import list_ as run

    return run(home, directory=directory)


@click.command(short_help="Verify a backup by a trial restore.")
@click.argument("backup", default="latest", shell_complete=_names)
@verb("backup verify")
def verify(home: Home, *, backup: str) -> Outcome:
    """Verify a backup (default: the latest): check every file's hash, restore it beside the data, and compare the rows.

    The present data is not changed, and the gateway continues to serve.
    """
    from mosaic_gateway_installer.backup.verbs import verify as run

    return run(home, backup)


@click.command(short_help="Replace the present data by a backup, or restore it into an empty home.")
@click.argument("backup", shell_complete=_names)
@click.option("--dry-run", is_flag=True, help="Only show what would be done.")
@click.option("--yes", is_flag=True, help="Do not ask whether the present data may be replaced.")
@click.option("--no-backup", is_flag=True, help="Do not back up the present data first, for example if it is damaged.")
@click.option("--run-as", metavar="USER", help="As root: the account that is to own the empty home.")
@verb("backup restore", passes_as_json=True)
def restore(
    home: Home, *, backup: str, dry_run: bool, yes: bool, no_backup: bool, run_as: str | None, as_json: bool
) -> Outcome:
    """Restore BACKUP, the name of a backup or a directory.

    Names what would be lost, asks, and backs up the present data (tag before-restore) before it is replaced. The
    present data is set aside until the restored gateway has passed its smoke test. If it fails, the present
    data is put back and the gateway is started again.
    """
    from mosaic_gateway_installer.backup.restore import RestoreOptions
    from mosaic_gateway_installer.backup.restore import restore as run

    options = RestoreOptions(dry_run=dry_run, yes=yes, asks=not as_json, backup=not no_backup, run_as=run_as)
    return run(home, backup, options)


@click.command(short_help="Remove old backups, never the last verified one.")
@click.option("--keep", type=click.IntRange(min=1), required=True, metavar="N", help="Keep the newest N backups.")
@click.option("--older-than", type=click.IntRange(min=0), metavar="DAYS", help="Remove only backups older than DAYS.")
@click.option("--dry-run", is_flag=True, help="Only show what would be removed.")
@verb("backup prune")
def prune(home: Home, *, keep: int, older_than: int | None, dry_run: bool) -> Outcome:
    """Remove the home's backups except for the newest N; the last verified backup is never removed."""
    from mosaic_gateway_installer.backup.verbs import prune as run

    return run(home, keep=keep, older_than=older_than, dry_run=dry_run)
