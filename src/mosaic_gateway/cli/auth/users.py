"""The verbs ``auth users …``."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from mosaic_gateway.cli.auth.table import instant, table
from mosaic_gateway.cli.envelope import Outcome
from mosaic_gateway.cli.input import password_options, read_password
from mosaic_gateway.cli.installed_home import installation_of
from mosaic_gateway.cli.verb_decorator import verb
from mosaic_gateway.errors import RefusedError, UsageError
from mosaic_gateway.gateway.database_access import open_database
from mosaic_gateway.installation.layout import Home
from mosaic_gateway.process.root_requests import Request

if TYPE_CHECKING:
    from mosaic_gateway.auth.users import User

__all__ = ["users"]

email_option = click.option("--email", required=True, help="E-mail address of the user.")


class RemovalNotConfirmedError(UsageError):
    """``--yes`` was not given, and there is no terminal for a prompt."""

    code = "REMOVAL_NOT_CONFIRMED"


class RemovalDeclinedError(RefusedError):
    """The prompt was not answered with yes."""

    code = "REMOVAL_DECLINED"


@click.group()
def users() -> None:
    """Create, list, change, ban and remove users."""


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
    return _outcome(user, f"Created {user.email} ({user.role}).")


@users.command("list")
@verb("auth users list")
def list_(home: Home) -> Outcome:
    """List all users."""
    from mosaic_gateway.auth import accounts

    installation = installation_of(home)
    with open_database(installation.config) as conninfo:
        listed = accounts.list_users(conninfo)
    return Outcome(
        result={"users": [user.to_json() for user in listed]},
        lines=table(("E-mail", "Role", "State", "Name"), [_row(user) for user in listed], empty="No users."),
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
    return _outcome(user, f"{user.email} has a new password; all sessions were ended.")


@users.command("reset-link", short_help="Print a link for setting a new password.")
@email_option
@verb("auth users reset-link")
def reset_link(home: Home, *, email: str) -> Outcome:
    """Print a link with which the user sets a new password; the user's earlier links become invalid."""
    from mosaic_gateway.auth import accounts
    from mosaic_gateway.auth.reset_tokens import reset_url

    installation = installation_of(home)
    with open_database(installation.config) as conninfo:
        token = accounts.issue_reset_link(conninfo, email=email)
    url = reset_url(installation.config.url, token)
    return Outcome(
        result={"url": url, "expires_at": f"{token.expires_at.isoformat(timespec='seconds')}Z"},
        lines=(url, "The link works once, within 24 hours. Give it to the user only."),
    )


@users.command("set-role", short_help="Set a user's role.")
@email_option
@click.option("--role", required=True, help="admin, user or a name of your own; several are joined with commas.")
@verb("auth users set-role")
def set_role(home: Home, *, email: str, role: str) -> Outcome:
    """Set the role of a user. Roles other than admin and user are groups for services behind the gateway.

    The last admin keeps the role.
    """
    from mosaic_gateway.auth import accounts

    installation = installation_of(home)
    with open_database(installation.config) as conninfo:
        user = accounts.set_role(conninfo, email=email, role=role)
    return _outcome(user, f"{user.email} has the role {user.role}.")


@users.command(short_help="Ban a user.")
@email_option
@click.option("--reason", help="Reason, shown to admins.")
@click.option("--days", type=click.FloatRange(min=0, max=36500, min_open=True), help="Days until the ban ends.")
@verb("auth users ban")
def ban(home: Home, *, email: str, reason: str | None, days: float | None) -> Outcome:
    """Ban a user, for good or for some days, and end all of the user's sessions. The last admin cannot be banned."""
    from mosaic_gateway.auth import accounts

    installation = installation_of(home)
    with open_database(installation.config) as conninfo:
        user = accounts.ban_user(conninfo, email=email, reason=reason, days=days)
    until = f" until {instant(user.ban_expires)}" if user.ban_expires else ""
    return _outcome(user, f"{user.email} is banned{until}; all sessions were ended.")


@users.command(short_help="Lift the ban of a user.")
@email_option
@verb("auth users unban")
def unban(home: Home, *, email: str) -> Outcome:
    """Lift the ban of a user."""
    from mosaic_gateway.auth import accounts

    installation = installation_of(home)
    with open_database(installation.config) as conninfo:
        user, lifted = accounts.unban_user(conninfo, email=email)
    if lifted:
        return _outcome(user, f"The ban of {user.email} was lifted.")
    return _outcome(user, f"{user.email} was not banned; nothing was changed.")


@users.command(short_help="Remove a user.")
@email_option
@click.option("--yes", is_flag=True, help="Do not prompt.")
@verb("auth users remove")
def remove(home: Home, *, email: str, yes: bool) -> Outcome:
    """Remove a user with everything that belongs to the user. The last admin cannot be removed."""
    from mosaic_gateway.auth import accounts

    installation = installation_of(home)
    if not yes:
        _confirm(home, email)
    with open_database(installation.config) as conninfo:
        user = accounts.remove_user(conninfo, email=email)
    return _outcome(user, f"Removed {user.email}.")


def _confirm(home: Home, email: str) -> None:
    """Ask whether to remove the user. Raises `RemovalNotConfirmedError` and `RemovalDeclinedError`."""
    broker = home.broker
    terminal = broker.facts["terminal"]["input"] if broker is not None else sys.stdin is not None and sys.stdin.isatty()
    if not terminal:
        raise RemovalNotConfirmedError("there is no terminal to ask whether to remove the user", hint="Use --yes.")
    if broker is not None:
        confirmed = broker.ask(Request.PROMPT)[0]["text"] == "yes"
    else:
        confirmed = click.confirm(f"Remove {email} with everything that belongs to this user?", err=True)
    if not confirmed:
        raise RemovalDeclinedError("the user was not removed")


def _outcome(user: User, line: str) -> Outcome:
    return Outcome(result={"user": user.to_json()}, lines=(line,))


def _row(user: User) -> tuple[str, ...]:
    until = f" until {instant(user.ban_expires)}" if user.ban_expires else ""
    return user.email, user.role or "user", f"banned{until}" if user.banned else "active", user.name
