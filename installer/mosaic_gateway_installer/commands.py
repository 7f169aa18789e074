"""The installer's verbs as commands: options in, one call, one outcome out."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import click

from mosaic_gateway.cli.envelope import Outcome
from mosaic_gateway.cli.invocation import current_invocation
from mosaic_gateway.cli.named_file import read_named_file
from mosaic_gateway.cli.verb import verb
from mosaic_gateway.config import EngineName, Home
from mosaic_gateway.errors import UsageError
from mosaic_gateway.root_requests import Request

__all__ = ["doctor", "install", "uninstall"]

ASK = "?"


class ConfirmationMissingError(UsageError):
    """A purge was asked for where nobody can be asked for the instance id."""

    code = "CONFIRMATION_MISSING"


@click.command(short_help="Install, and start the gateway.")
@click.option("--host", metavar="ADDRESS", help="Address to listen on.  [default: 127.0.0.1]")
@click.option("--port", type=click.IntRange(1, 65535), help="Port to listen on.  [default: 14242]")
@click.option("--base-url", metavar="URL", help="Where people reach the gateway, if that is not host and port.")
@click.option(
    "--engine",
    type=click.Choice(["auto", *(str(name) for name in EngineName)]),
    help="What runs the database.  [default: auto: PostgreSQL where it runs, else PGlite]",
)
@click.option("--database-url-file", type=click.Path(path_type=Path), metavar="FILE", help="The URL, from a file.")
@click.option("--database-url", metavar="URL", help="A PostgreSQL server (prefer DATABASE_URL or the file).")
@click.option("--postgres-bin", type=click.Path(path_type=Path), metavar="DIR", help="The system's PostgreSQL.")
@click.option("--pglite-dir", type=click.Path(path_type=Path), metavar="DIR", help="PGlite's packages that are there.")
@click.option("--run-as", metavar="USER", help="As root: the account that owns the home.  [default: mosaic-gateway]")
@click.option(
    "--program-dir",
    type=click.Path(path_type=Path),
    metavar="DIR",
    help="As root: where the programs go.  [default: below /usr/local/lib/mosaic-gateway]",
)
@click.option(
    "--service/--no-service",
    default=None,
    help="Register with systemd or launchd, or do not; remembered.  [default: if there is one]",
)
@click.option("--no-start", is_flag=True, help="Apply the schema, but do not leave a gateway running.")
@click.option("--accept-secret", is_flag=True, help="Take up data with another secret; all sessions end.")
@click.option("--no-backup", is_flag=True, help="Make no backup of kept data that has to be migrated.")
@click.option("--dry-run", is_flag=True, help="Only say what would be done.")
@verb("install")
def install(
    home: Home,
    *,
    no_start: bool,
    no_backup: bool,
    database_url_file: Path | None,
    program_dir: Path | None,
    **options: Any,
) -> Outcome:
    """Install into the home directory, start the gateway, and test it over HTTP.

    A second run completes what is missing and changes nothing else; over kept data it takes the data up.
    """
    from mosaic_gateway_installer.verbs.install import install as run
    from mosaic_gateway_installer.wishes import Wishes

    if program_dir is not None and home.broker is None:
        raise UsageError("--program-dir is for root's installations", hint="Leave it out.")
    if database_url_file is not None:
        options["database_url"] = _read_url(database_url_file)
    return run(home, Wishes(start=not no_start, backup=not no_backup, **options))


@click.command(short_help="Remove the programs, keep the data.")
@click.option("--purge", is_flag=False, flag_value=ASK, metavar="[=INSTANCE_ID]", help="Give up the data as well.")
@click.option("--yes", is_flag=True, help="Ask nothing; never enough for a purge.")
@click.option("--dry-run", is_flag=True, help="Only say what would be removed.")
@verb("uninstall")
def uninstall(home: Home, *, purge: str | None, yes: bool, dry_run: bool) -> Outcome:
    """Stop the gateway and remove what was installed; data, secrets, settings and backups stay.

    With --purge they go as well, once the instance id has been given (as --purge=ID in scripts).
    """
    from mosaic_gateway_installer.receipt import installed
    from mosaic_gateway_installer.verbs.uninstall import uninstall as run

    if purge == ASK:
        purge = _confirmed(home, installed(home).instance_id, asked=not yes)
    return run(home, purge=purge, dry_run=dry_run)


@click.command(short_help="Look for faults of an installation.")
@click.option("--fix", is_flag=True, help="Mend what can safely be mended.")
@click.option("--bundle", type=click.Path(path_type=Path), metavar="FILE", help="Also write a support archive there.")
@verb("doctor")
def doctor(home: Home, *, fix: bool, bundle: Path | None) -> Outcome:
    """Check an installation. The exit code is 0 if no fault was found, or none is left."""
    from mosaic_gateway_installer.verbs.doctor import doctor as run

    return run(home, fix=fix, bundle=bundle.absolute() if bundle is not None else None)


def _confirmed(home: Home, instance_id: str, *, asked: bool) -> str:
    """Return what a person types for the instance id. Raises `ConfirmationMissingError`."""
    broker = home.broker
    terminal = broker.facts["terminal"]["input"] if broker is not None else sys.stdin.isatty()
    if not asked or not terminal:
        raise ConfirmationMissingError(
            "a purge must be confirmed with the instance id, and there is no terminal to ask at",
            hint="Give the instance id: --purge=INSTANCE_ID",
        )
    if broker is not None:
        return str(broker.ask(Request.PROMPT, {"instance_id": instance_id})[0]["text"])
    click.echo(f"This removes all data and all backups of {home.path} for good.", err=True)
    return str(click.prompt(f"Type the instance id ({instance_id}) to go on", err=True))


def _read_url(path: Path) -> str:
    try:
        return read_named_file("database_url_file", path, current_invocation()).decode("utf-8").strip()
    except UnicodeDecodeError as error:
        raise UsageError(f"{path} cannot be read: it is not UTF-8", hint="Name a readable file.") from error
