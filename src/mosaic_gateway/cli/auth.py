"""The verbs ``auth users create``, ``list`` and ``set-password``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from mosaic_gateway.cli.envelope import Outcome
from mosaic_gateway.cli.installed_home import installation_of
from mosaic_gateway.cli.password import password_options, read_password
from mosaic_gateway.cli.verb_decorator import verb
from mosaic_gateway.gateway.database_access import open_database
from mosaic_gateway.installation.layout import Home

if TYPE_CHECKING:
    from mosaic_gateway.auth.users import User

__all__ = ["auth"]


@click.group()
def auth() -> None:
    """Manage the users who may sign in."""


@auth.group()
def users() -> None:
    """Create and list users, and set their passwords."""


@users.command()
@click.option("--name", required=True, help="Name shown to users.")
@click.option("--email", required=True, help="E-mail address to sign in with.")
@click.option(
    "--role", type=click.Choice(["user", "admin"]), default="user", show_default=True, help="Role of the user."
)
@password_options
@verb("auth users create")
def create(
    home: Home, *, name: str, email: str, role: str, password_stdin: bool, password_file: Path | None
) -> Outcome:
    """Create a user."""
    from mosaic_gateway.auth import accounts

    installation = installation_of(home)
    password = read_password(password_stdin=password_stdin, password_file=password_file)
    with open_database(installation.config) as conninfo:
        user = accounts.create_user(conninfo, name=name, email=email, password=password, role=role)
    return Outcome(result={"user": user.to_json()}, lines=(f"Created {user.email} ({user.role}).",))


@users.command("list")
@verb("auth users list")
def list_(home: Home) -> Outcome:
    """List all users."""
    from mosaic_gateway.auth import accounts

    installation = installation_of(home)
    with open_database(installation.config) as conninfo:
        listed = accounts.list_users(conninfo)
    return Outcome(
        result={"users": [user.to_json() for user in listed]}, lines=tuple(map(_line, listed)) or ("No users.",)
    )


@users.command("set-password", short_help="Set a user's password.")
@click.option("--email", required=True, help="E-mail address to sign in with.")
@password_options
@verb("auth users set-password")
def set_password(home: Home, *, email: str, password_stdin: bool, password_file: Path | None) -> Outcome:
    """Set a new password for a user and end all of the user's sessions."""
    from mosaic_gateway.auth import accounts

    installation = installation_of(home)
    password = read_password(password_stdin=password_stdin, password_file=password_file)
    with open_database(installation.config) as conninfo:
        user = accounts.set_password(conninfo, email=email, password=password)
    return Outcome(
        result={"user": user.to_json()}, lines=(f"{user.email} has a new password; all sessions were ended.",)
    )


def _line(user: User) -> str:
    return f"{user.email:<32} {user.role or 'user':<6} {'banned  ' if user.banned else ''}{user.name}"
