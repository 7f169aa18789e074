"""The verbs ``auth tokens …``."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

import click

from mosaic_gateway.cli.auth.table import instant, table
from mosaic_gateway.cli.envelope import Outcome
from mosaic_gateway.cli.input import NamedFileError
from mosaic_gateway.cli.installed_home import installation_of
from mosaic_gateway.cli.verb_decorator import verb
from mosaic_gateway.gateway.database_access import open_database
from mosaic_gateway.installation.layout import Home
from mosaic_gateway.process.root_requests import Request

if TYPE_CHECKING:
    from mosaic_gateway.auth.api_tokens import IssuedToken, OwnedToken

__all__ = ["tokens"]

DAYS = 90
HEADINGS = ("Id", "E-mail", "Scopes", "State", "Last used", "Name")


@click.group()
def tokens() -> None:
    """Create, list and revoke API tokens, with which programs act for a user."""


@tokens.command(short_help="Create an API token.")
@click.option("--email", required=True, help="E-mail address of the user for whom programs act with the token.")
@click.option("--name", required=True, help="What the token is for.")
@click.option("--scope", "scopes", multiple=True, required=True, help="read, admin or forward; may be repeated.")
@click.option(
    "--days", type=click.IntRange(1, 3650), default=DAYS, show_default=True, help="Days until the token expires."
)
@click.option("--no-expiry", is_flag=True, help="The token does not expire.")
@click.option(
    "--output",
    type=click.Path(path_type=Path, readable=False),
    metavar="FILE",
    help="Write the token to a new file (mode 0600) instead of standard output.",
)
@verb("auth tokens create")
def create(
    home: Home, *, email: str, name: str, scopes: tuple[str, ...], days: int, no_expiry: bool, output: Path | None
) -> Outcome:
    """Create an API token and print it once; only a hash of it is stored.

    Scopes: read (read what the user may read, of an admin the users too), admin (what an admin may do with users),
    forward (sign in to services behind the gateway).
    """
    from mosaic_gateway.auth import accounts

    installation = installation_of(home)
    with open_database(installation.config) as conninfo:
        issued = accounts.create_token(
            conninfo, email=email, name=name, scopes=scopes, days=None if no_expiry else days
        )
        result: dict[str, object] = {"token": issued.record.to_json()}
        if output is None:
            result["secret"] = issued.token.reveal()
            return Outcome(result=result, lines=(issued.token.reveal(),), warnings=_warnings(issued))
        try:
            _write_new(home, output, issued.token.reveal())
        except NamedFileError:
            accounts.revoke_token(conninfo, token_id=issued.record.id)
            raise
    lines = (f"The token is in {output}.",)
    return Outcome(result={**result, "output": str(output)}, lines=lines, warnings=_warnings(issued))


@tokens.command("list")
@click.option("--email", help="Only the tokens of this user.")
@verb("auth tokens list")
def list_(home: Home, *, email: str | None) -> Outcome:
    """List API tokens, revoked and expired ones too."""
    from mosaic_gateway.auth import accounts

    installation = installation_of(home)
    with open_database(installation.config) as conninfo:
        listed = accounts.list_tokens(conninfo, email=email)
    return Outcome(
        result={"tokens": [token.to_json() for token in listed]},
        lines=table(HEADINGS, [_row(owned) for owned in listed], empty="No tokens."),
    )


@tokens.command(short_help="Revoke an API token.")
@click.option("--id", "token_id", required=True, help="Id of the token.")
@verb("auth tokens revoke")
def revoke(home: Home, *, token_id: str) -> Outcome:
    """Revoke the API token with an id from auth tokens list."""
    from mosaic_gateway.auth import accounts

    installation = installation_of(home)
    with open_database(installation.config) as conninfo:
        token = accounts.revoke_token(conninfo, token_id=token_id)
    return Outcome(result={"token": token.to_json()}, lines=(f"Revoked {token.name}.",))


def _write_new(home: Home, path: Path, text: str) -> None:
    """Write *text* to a new file, which root's process creates if root called the verb. Raises `NamedFileError`."""
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    try:
        broker = home.broker
        descriptor = broker.ask(Request.OPEN_OUTPUT)[1][0] if broker is not None else os.open(path, flags, 0o600)
        with os.fdopen(descriptor, "w", encoding="ascii") as stream:
            stream.write(f"{text}\n")
    except OSError as error:
        raise NamedFileError(
            f"{path} cannot be written: {error.strerror}", hint="Give a file that does not exist."
        ) from error


def _warnings(issued: IssuedToken) -> tuple[str, ...]:
    """Return what the token cannot do. The role is checked at each use: it may be given later."""
    if issued.user.is_admin or "admin" not in issued.record.scopes:
        return ()
    return (f"{issued.user.email} is not an admin: the scope admin permits nothing until this user is one",)


def _row(owned: OwnedToken) -> tuple[str, ...]:
    token = owned.record
    state = "revoked" if token.revoked_at else f"until {instant(token.expires_at)}" if token.expires_at else "no expiry"
    used = instant(token.last_used_at) if token.last_used_at else "never"
    return token.id, owned.email, ",".join(token.scopes), state, used, token.name
