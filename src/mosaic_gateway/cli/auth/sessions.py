"""The verbs ``auth sessions …``."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from mosaic_gateway.cli.auth.table import cut, instant, table
from mosaic_gateway.cli.envelope import Outcome
from mosaic_gateway.cli.installed_home import installation_of
from mosaic_gateway.cli.verb_decorator import verb
from mosaic_gateway.errors import UsageError
from mosaic_gateway.gateway.database_access import open_database
from mosaic_gateway.installation.layout import Home

if TYPE_CHECKING:
    from mosaic_gateway.auth.session_list import OwnedSession

__all__ = ["sessions"]

HEADINGS = ("Id", "E-mail", "Until", "Address", "Program")


class SessionChoiceError(UsageError):
    """Neither or both of ``--email`` and ``--id`` were given."""

    code = "SESSION_CHOICE"


@click.group()
def sessions() -> None:
    """List and revoke sessions."""


@sessions.command("list")
@click.option("--email", help="Only the sessions of this user.")
@verb("auth sessions list")
def list_(home: Home, *, email: str | None) -> Outcome:
    """List the sessions that have not expired."""
    from mosaic_gateway.auth import accounts

    installation = installation_of(home)
    with open_database(installation.config) as conninfo:
        listed = accounts.list_sessions(conninfo, email=email)
    return Outcome(
        result={"sessions": [session.to_json() for session in listed]},
        lines=table(HEADINGS, [_row(owned) for owned in listed], empty="No sessions."),
    )


@sessions.command(short_help="Revoke the sessions of a user, or one.")
@click.option("--email", help="Revoke all sessions of this user.")
@click.option("--id", "session_id", help="Revoke the session with this id.")
@verb("auth sessions revoke")
def revoke(home: Home, *, email: str | None, session_id: str | None) -> Outcome:
    """Revoke all sessions of a user, or the one with an id from auth sessions list."""
    from mosaic_gateway.auth import accounts

    if (email is None) == (session_id is None):
        raise SessionChoiceError("which sessions?", hint="Give either --email or --id.")
    installation = installation_of(home)
    with open_database(installation.config) as conninfo:
        number = accounts.revoke_sessions(conninfo, email=email, session_id=session_id)
    return Outcome(result={"revoked": number}, lines=(f"Revoked {number} session{'' if number == 1 else 's'}.",))


def _row(owned: OwnedSession) -> tuple[str, ...]:
    session = owned.session
    until, program = instant(session.expires_at), cut(session.user_agent or "")
    return session.id, owned.email, until, session.ip_address or "", program
