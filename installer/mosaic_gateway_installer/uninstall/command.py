"""The command line of ``uninstall``."""

from __future__ import annotations

import sys

import click

from mosaic_gateway.cli import ConfirmationMissingError, Outcome, verb
from mosaic_gateway.installation import Home
from mosaic_gateway.process import Request

__all__ = ["uninstall"]

ASK = "?"


@click.command(short_help="Remove the programs and keep the data.")
@click.option("--purge", is_flag=False, flag_value=ASK, metavar="[=INSTANCE_ID]", help="Remove the data as well.")
@click.option("--yes", is_flag=True, help="Do not prompt; a purge still needs the instance id.")
@click.option("--dry-run", is_flag=True, help="Only print what would be removed.")
@verb("uninstall")
def uninstall(home: Home, *, purge: str | None, yes: bool, dry_run: bool) -> Outcome:
    """Stop the gateway and remove the programs; data, secrets, settings and backups are retained.

    With --purge these are removed as well, after the instance id is confirmed (--purge=ID in scripts).
    """
    from mosaic_gateway.installation import installed
    from mosaic_gateway_installer.uninstall.verb import uninstall as run

    if purge == ASK:
        identity = installed(home).instance_id
        purge = identity if dry_run else _confirmed(home, identity, asked=not yes)
    return run(home, purge=purge, dry_run=dry_run)


def _confirmed(home: Home, instance_id: str, *, asked: bool) -> str:
    """Prompt for the instance id and return the input. Raises `ConfirmationMissingError`."""
    broker = home.broker
    terminal = broker.facts["terminal"]["input"] if broker is not None else sys.stdin.isatty()
    if not asked or not terminal:
        raise ConfirmationMissingError(
            "a purge must be confirmed with the instance id" + ("" if terminal else ", and there is no terminal"),
            hint="Give the instance id: --purge=INSTANCE_ID",
        )
    if broker is not None:
        return str(broker.ask(Request.PROMPT, {"instance_id": instance_id})[0]["text"])
    click.echo(f"This permanently removes all data and all backups of {home.path}.", err=True)
    return str(click.prompt(f"Type the instance id ({instance_id}) to continue", err=True))
