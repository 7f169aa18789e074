"""The database and the migrations that a verb works on: the home's, or those named by options."""

from __future__ import annotations

import re
import shlex
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from mosaic_gateway.cli.installed_home import installation_of
from mosaic_gateway.config import Config, default_home, load_config
from mosaic_gateway.errors import MosaicError, UsageError
from mosaic_gateway.gateway.database_access import open_alone_if_idle
from mosaic_gateway.gateway.schema import load_bundles
from mosaic_gateway.installation.engine_name import EngineName
from mosaic_gateway.installation.layout import Home
from mosaic_gateway.migrations.bundle import Bundle
from mosaic_gateway.process.environment import process_environment

if TYPE_CHECKING:
    import psycopg

__all__ = [
    "DatabaseFailedError",
    "Target",
    "bundle_with",
    "complete_commands",
    "open_target",
    "target_options",
    "uses_home",
]

COMMAND = re.compile(r"mosaic-gateway storage (?:status|plan|migrate|resolve|baseline)\b")


class DatabaseFailedError(MosaicError):
    """PostgreSQL rejected a statement of a verb, or the connection was lost."""

    code = "DATABASE_FAILED"


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """An open connection to the database, and the bundles for it, in the order in which they are applied.

    ``alone``: no other process can connect to the database now. ``options`` are the command-line options that make
    another command use the same target.
    """

    connection: psycopg.Connection[tuple[Any, ...]]
    conninfo: str
    config: Config
    alone: bool
    bundles: tuple[Bundle, ...]
    options: str

    @property
    def engine(self) -> EngineName:
        """What runs the database."""
        return self.config.engine


def uses_home(options: Mapping[str, Any]) -> bool:
    """Return whether a verb with *options* works on the database of a home, not on one named by a URL."""
    return options["database_url"] is None and options["database_url_file"] is None


def target_options(function: Callable[..., Any]) -> Callable[..., Any]:
    """Add ``--from``, ``--database-url`` and ``--database-url-file`` to a command."""
    for decorate in (
        click.option(
            "--from",
            "folder",
            type=click.Path(path_type=Path, file_okay=False),
            metavar="DIR",
            help="Use the migrations in DIR (drizzle-kit's format) instead of the packaged ones.",
        ),
        click.option(
            "--database-url-file",
            type=click.Path(path_type=Path, dir_okay=False),
            metavar="FILE",
            help="Read the database URL from FILE instead of using the home's database.",
        ),
        click.option(
            "--database-url", metavar="URL", help="The database URL. Other users of this machine can read arguments."
        ),
    ):
        function = decorate(function)
    return function


@contextmanager
def open_target(
    home: Home,
    verb: str,
    *,
    folder: Path | None = None,
    database_url: str | None = None,
    database_url_file: Path | None = None,
) -> Iterator[Target]:
    """Open the target that the options name. Raises `BundleError`, UsageError, and the engine's errors."""
    from mosaic_gateway.engines.session import connect
    from mosaic_gateway.migrations.session_settings import migration_session_if_direct

    bundles = load_bundles() if folder is None else (Bundle.from_directory(folder),)
    options = _options(home, folder, database_url, database_url_file)
    with ExitStack() as stack:
        stack.enter_context(_completed_hints(options))
        stack.enter_context(_database_errors())
        config = _settings(home, database_url, database_url_file)
        opened = stack.enter_context(open_alone_if_idle(config, verify=folder is None))
        connection = stack.enter_context(connect(opened.conninfo, application_name=f"mosaic-gateway {verb}"))
        stack.enter_context(migration_session_if_direct(connection))
        yield Target(
            connection=connection,
            conninfo=opened.conninfo,
            config=config,
            alone=opened.alone,
            bundles=bundles,
            options=options,
        )


def complete_commands(error: MosaicError, options: str) -> MosaicError:
    """Add *options* to the commands in the hint of *error*, so that they use the same target."""
    error.hint = COMMAND.sub(lambda match: f"{match[0]}{options}", error.hint)
    return error


def _options(home: Home, folder: Path | None, url: str | None, file: Path | None) -> str:
    """Return the options, each preceded by a space; a URL is replaced by …, as it may contain a password."""
    words = []
    if folder is not None:
        words += ["--from", shlex.quote(str(folder))]
    if file is not None:
        words += ["--database-url-file", shlex.quote(str(file))]
    elif url is not None:
        words += ["--database-url", "…"]
    elif home.path != default_home(process_environment()).expanduser().absolute():
        words += ["--home", shlex.quote(str(home.path))]
    return "".join(f" {word}" for word in words)


@contextmanager
def _completed_hints(options: str) -> Iterator[None]:
    try:
        yield
    except MosaicError as error:
        complete_commands(error, options)
        raise


@contextmanager
def _database_errors() -> Iterator[None]:
    """Translate psycopg errors to `DatabaseFailedError`."""
    import psycopg

    try:
        yield
    except psycopg.Error as error:
        raise DatabaseFailedError(
            f"database error: {str(error).strip()} (SQLSTATE {error.sqlstate or 'none'})",
            hint="Make sure that the database user may read the schemas drizzle and mosaic, and that the server is up.",
        ) from error


def _settings(home: Home, url: str | None, file: Path | None) -> Config:
    """Return the settings of the home, or with a URL settings that need no home."""
    if file is not None:
        if url is not None:
            raise UsageError("--database-url and --database-url-file are mutually exclusive", hint="Give one of them.")
        try:
            url = file.read_text(encoding="utf-8").strip()
        except (OSError, UnicodeDecodeError) as error:
            raise UsageError(f"{file} cannot be read: {error}", hint="Name a readable file.") from error
    if url is None:
        return installation_of(home).config
    flags = {"engine": EngineName.SERVER, "database_url": url}
    return load_config(Home(Path("/nonexistent")), flags=flags, environ=process_environment())


def bundle_with(target: Target, tag: str) -> Bundle:
    """Return the bundle of *target* that contains the migration *tag*. Raises UsageError."""
    for bundle in target.bundles:
        if any(migration.tag == tag for migration in bundle.migrations):
            return bundle
    raise UsageError(f"there is no migration {tag}", hint="mosaic-gateway storage status lists them.")
