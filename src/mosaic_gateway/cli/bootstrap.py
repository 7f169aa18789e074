"""The verbs ``bootstrap …``, which create the first admin."""

from __future__ import annotations

from pathlib import Path

import click

from mosaic_gateway.cli.envelope import Outcome
from mosaic_gateway.cli.input import password_options, read_password
from mosaic_gateway.cli.installed_home import installation_of
from mosaic_gateway.cli.verb_decorator import verb
from mosaic_gateway.gateway.database_access import open_database
from mosaic_gateway.hint import command
from mosaic_gateway.installation.layout import Home

__all__ = ["bootstrap"]


@click.group()
def bootstrap() -> None:
    """Create the first admin of a new gateway."""


@bootstrap.command()
@verb("bootstrap status")
def status(home: Home) -> Outcome:
    """Show whether the first admin has been created."""
    from mosaic_gateway.auth import accounts

    installation = installation_of(home)
    with open_database(installation.config) as conninfo:
        needed = accounts.needs_setup(conninfo)
    line = "No admin yet: " + command("bootstrap link") if needed else "The gateway has an admin."
    return Outcome(result={"needsSetup": needed}, lines=(line,))


@bootstrap.command()
@click.option("--name", required=True, help="Name shown to users.")
@click.option("--email", required=True, help="E-mail address to sign in with.")
@password_options
@verb("bootstrap setup")
def setup(home: Home, *, name: str, email: str, password_stdin: bool, password_file: Path | None) -> Outcome:
    """Create the first admin on the command line, without the web page."""
    from mosaic_gateway.auth import accounts

    installation = installation_of(home)
    password = read_password(password_stdin=password_stdin, password_file=password_file)
    with open_database(installation.config) as conninfo:
        user = accounts.setup_first_admin(conninfo, name=name, email=email, password=password)
    return Outcome(result={"user": user.to_json()}, lines=(f"{user.email} is the first admin.",))


@bootstrap.command(short_help="Print a new link for the first admin.")
@verb("bootstrap link")
def link(home: Home) -> Outcome:
    """Print a new link for creating the first admin; earlier links become invalid."""
    from mosaic_gateway.auth import accounts
    from mosaic_gateway.auth.setup_tokens import setup_url

    installation = installation_of(home)
    with open_database(installation.config) as conninfo:
        token = accounts.issue_setup_token(conninfo)
    url = setup_url(installation.config.url, token)
    return Outcome(
        result={"url": url, "expires_at": f"{token.expires_at.isoformat(timespec='seconds')}Z"},
        lines=(url, "The link works once, within 24 hours. Do not share it."),
    )
