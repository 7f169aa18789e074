"""The command line of ``install``."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from mosaic_gateway.cli.envelope import Outcome
from mosaic_gateway.cli.invocation import current_invocation
from mosaic_gateway.cli.named_file import read_named_file
from mosaic_gateway.cli.verb import verb
from mosaic_gateway.errors import UsageError
from mosaic_gateway.installation.engine_name import EngineName
from mosaic_gateway.installation.layout import Home

__all__ = ["install"]


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
    from mosaic_gateway_installer.install.options import InstallOptions
    from mosaic_gateway_installer.install.verb import install as run

    if program_dir is not None and home.broker is None:
        raise UsageError("--program-dir is for root's installations", hint="Leave it out.")
    if database_url_file is not None:
        options["database_url"] = _read_url(database_url_file)
    return run(home, InstallOptions(start=not no_start, backup=not no_backup, **options))


def _read_url(path: Path) -> str:
    try:
        return read_named_file("database_url_file", path, current_invocation()).decode("utf-8").strip()
    except UnicodeDecodeError as error:
        raise UsageError(f"{path} cannot be read: it is not UTF-8", hint="Name a readable file.") from error
