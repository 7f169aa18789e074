"""The group ``backup`` as commands: options in, one call, one outcome out."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import click

from mosaic_gateway.cli.envelope import Outcome
from mosaic_gateway.cli.lazy import LazyGroup
from mosaic_gateway.cli.verb import verb
from mosaic_gateway.installation.layout import Home

__all__ = ["backup", "create", "list_", "prune", "restore", "verify"]

_HERE = "mosaic_gateway_installer.backup.command"
VERBS: Mapping[str, tuple[str, str, str]] = {
    "create": (_HERE, "create", "Back up data, secrets and settings, also while the gateway serves."),
    "list": (_HERE, "list_", "Which backups there are."),
    "verify": (_HERE, "verify", "Restore a backup beside the present data, and compare."),
    "restore": (_HERE, "restore", "Put a backup in the place of the present data, or into an empty home."),
    "prune": (_HERE, "prune", "Remove old backups, never the last verified one."),
}
ELSEWHERE = click.Path(path_type=Path, file_okay=False)

backup = LazyGroup("backup", commands_at=VERBS, help="Back up data, secrets and settings, and put them back.")


@click.command(short_help="Back up data, secrets and settings, also while the gateway serves.")
@click.option("--to", "directory", type=ELSEWHERE, metavar="DIR", help="Keep it there instead of in the home.")
@click.option("--verify", "check", is_flag=True, help="Verify it at once.")
@verb("backup create")
def create(home: Home, *, directory: Path | None, check: bool) -> Outcome:
    """Back up data, secrets and settings into a new directory; the gateway goes on serving."""
    from mosaic_gateway_installer.backup.verbs.create import create as run

    return run(home, directory=directory, check=check)


@click.command("list", short_help="Which backups there are.")
@click.option("--in", "directory", type=ELSEWHERE, metavar="DIR", help="Look there instead of in the home.")
@verb("backup list")
def list_(home: Home, *, directory: Path | None) -> Outcome:
    """Show the backups, newest first. Reads only."""
    from mosaic_gateway_installer.backup.verbs.list import list_ as run

    return run(home, directory=directory)


@click.command(short_help="Restore a backup beside the present data, and compare.")
@click.argument("backup", default="latest")
@verb("backup verify")
def verify(home: Home, *, backup: str) -> Outcome:
    """Check a backup (default: the latest): every file's hash, then a restore that is started and compared.

    The present data is not touched, and the gateway goes on serving.
    """
    from mosaic_gateway_installer.backup.verbs.verify import verify as run

    return run(home, backup)


@click.command(short_help="Put a backup in the place of the present data, or into an empty home.")
@click.argument("backup")
@click.option("--dry-run", is_flag=True, help="Only say what would be done.")
@click.option("--run-as", metavar="USER", help="As root, into an empty home: the account that owns it.")
@verb("backup restore")
def restore(home: Home, *, backup: str, dry_run: bool, run_as: str | None) -> Outcome:
    """Restore a backup, a name or a directory.

    The present data is set aside until the restored gateway has passed its smoke test; if it does not, the
    present data serves again.
    """
    from mosaic_gateway_installer.backup.verbs.restore import restore as run

    return run(home, backup, dry_run=dry_run, run_as=run_as)


@click.command(short_help="Remove old backups, never the last verified one.")
@click.option("--keep", type=click.IntRange(min=1), required=True, metavar="N", help="How many of the newest stay.")
@click.option("--older-than", type=click.IntRange(min=0), metavar="DAYS", help="Remove only what is older than that.")
@click.option("--dry-run", is_flag=True, help="Only say what would be removed.")
@verb("backup prune")
def prune(home: Home, *, keep: int, older_than: int | None, dry_run: bool) -> Outcome:
    """Remove all backups of the home but the newest; the last verified one always stays."""
    from mosaic_gateway_installer.backup.verbs.prune import prune as run

    return run(home, keep=keep, older_than=older_than, dry_run=dry_run)
