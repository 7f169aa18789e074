"""The command line of ``install``."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from mosaic_gateway.cli import Outcome, current_invocation, read_named_file, verb
from mosaic_gateway.errors import UsageError
from mosaic_gateway.installation import EngineName, Home

__all__ = ["install"]


@click.command(short_help="Install and start the gateway.")
@click.option("--host", metavar="ADDRESS", help="Address to listen on.  [default: 127.0.0.1]")
@click.option("--port", type=click.IntRange(1, 65535), help="Port to listen on.  [default: 14242]")
@click.option("--base-url", metavar="URL", help="Public URL of the gateway, if it is not host and port.")
@click.option(
    "--engine",
    type=click.Choice(["auto", *(str(name) for name in EngineName)]),
    help="Database engine.  [default: auto: PostgreSQL if it runs here, else PGlite]",
)
@click.option("--database-url-file", type=click.Path(path_type=Path), metavar="FILE", help="Read the URL from FILE.")
@click.option("--database-url", metavar="URL", help="PostgreSQL server to use (safer: DATABASE_URL or a file).")
@click.option("--postgres-bin", type=click.Path(path_type=Path), metavar="DIR", help="Use the PostgreSQL in DIR.")
@click.option("--pglite-dir", type=click.Path(path_type=Path), metavar="DIR", help="Use the PGlite packages in DIR.")
@click.option("--run-as", metavar="USER", help="As root: account that owns the home.  [default: mosaic-gateway]")
@click.option(
    "--program-dir",
    type=click.Path(path_type=Path),
    metavar="DIR",
    help="As root: directory for the programs.  [default: below /usr/local/lib/mosaic-gateway]",
)
@click.option(
    "--service/--no-service",
    default=None,
    help="Register with systemd or launchd; the choice is recorded.  [default: if available]",
)
@click.option("--no-start", is_flag=True, help="Apply the schema, but do not start the gateway.")
@click.option("--accept-secret", is_flag=True, help="Adopt data with a different secret; all sessions end.")
@click.option("--no-backup", is_flag=True, help="Do not back up retained data before it is migrated.")
@click.option("--dry-run", is_flag=True, help="Only print what would be done.")
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

    A second run adds what is missing and changes nothing else. Data retained by an uninstall is adopted.
    """
    from mosaic_gateway_installer.install.plan import InstallOptions
    from mosaic_gateway_installer.install.verb import install as run

    if program_dir is not None and home.broker is None:
        raise UsageError("--program-dir is only for installations by root", hint="Run the command without it.")
    if database_url_file is not None:
        options["database_url"] = _read_url(database_url_file)
    return run(home, InstallOptions(start=not no_start, backup=not no_backup, **options))


def _read_url(path: Path) -> str:
    try:
        return read_named_file("database_url_file", path, current_invocation()).decode("utf-8").strip()
    except UnicodeDecodeError as error:
        raise UsageError(f"{path} cannot be read: it is not UTF-8", hint="Name a readable file.") from error
