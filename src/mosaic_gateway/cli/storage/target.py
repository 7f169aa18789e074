"""The database and the migrations that a verb works on: the home's, or those named by options."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from mosaic_gateway import migrations
from mosaic_gateway.cli.envelope import Outcome
from mosaic_gateway.cli.installed_home import installation_of
from mosaic_gateway.cli.verb_decorator import Options, verb
from mosaic_gateway.config import Config, load_config
from mosaic_gateway.errors import MosaicError, UsageError
from mosaic_gateway.gateway.database_access import open_alone_if_idle
from mosaic_gateway.gateway.schema import load_bundles
from mosaic_gateway.hint import HIDDEN, command
from mosaic_gateway.installation.engine_name import EngineName
from mosaic_gateway.installation.layout import Home
from mosaic_gateway.process.environment import process_environment

if TYPE_CHECKING:
    import psycopg

__all__ = [
    "DatabaseFailedError",
    "Target",
    "bundle_warnings",
    "bundle_with",
    "database_verb",
    "open_target",
    "target_words",
]


LONGEST_NAME = 63  # bytes; PostgreSQL truncates longer names


class DatabaseFailedError(MosaicError):
    """PostgreSQL rejected a statement of a verb, or the connection was lost."""

    code = "DATABASE_FAILED"


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """An open connection to the database, and the bundles for it, in the order in which they are applied.

    ``alone``: no other process can connect to the database now.
    """

    connection: psycopg.Connection[tuple[Any, ...]]
    conninfo: str
    config: Config
    alone: bool
    bundles: tuple[migrations.Bundle, ...]

    @property
    def engine(self) -> EngineName:
        """What runs the database."""
        return self.config.engine


def database_verb(name: str, *, passes_as_json: bool = False) -> Callable[[Callable[..., Outcome]], Callable[..., Any]]:
    """Return `verb` with the options that name a target. The function passes them to `open_target`."""
    as_verb = verb(name, passes_as_json=passes_as_json, at_home=_uses_home, target=target_words)
    return lambda function: _with_target_options(as_verb(function))


def _uses_home(options: Options) -> bool:
    """Return whether a verb with *options* works on the database of a home, not on one named by a URL."""
    return options["database_url"] is None and options["database_url_file"] is None


def target_words(home: Path | None, options: Options) -> tuple[str, ...]:
    """Return the options that make another command use the same target; a URL is hidden: it may contain a password."""
    folder, file = options["folder"], options["database_url_file"]
    words: tuple[str, ...] = () if folder is None else ("--from", str(folder))
    if options["ledger"] is not None:
        words += ("--ledger", str(options["ledger"]))
    if file is not None:
        return (*words, "--database-url-file", str(file))
    if options["database_url"] is not None:
        return (*words, "--database-url", HIDDEN)
    return words if home is None else (*words, "--home", str(home))


def _with_target_options(function: Callable[..., Any]) -> Callable[..., Any]:
    for decorate in (
        click.option(
            "--from",
            "folder",
            type=click.Path(path_type=Path, file_okay=False),
            metavar="DIR",
            help="Use the migrations in DIR (drizzle-kit's format) instead of the packaged ones.",
        ),
        click.option(
            "--ledger",
            type=_ledger_name,
            metavar="NAME",
            help="With --from: the table that records the applied migrations, as SCHEMA.TABLE or TABLE (in the schema "
            f"drizzle). Default: {migrations.LEDGERS['gateway']}.",
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
    ledger: migrations.LedgerName | None = None,
    database_url: str | None = None,
    database_url_file: Path | None = None,
) -> Iterator[Target]:
    """Open the target that the options name. Raises `BundleError`, UsageError, and the engine's errors."""
    from mosaic_gateway.engines.session import connect

    bundles = _bundles(folder, ledger)
    with ExitStack() as stack:
        stack.enter_context(_database_errors())
        config = _settings(home, database_url, database_url_file)
        opened = stack.enter_context(open_alone_if_idle(config, verify=folder is None))
        connection = stack.enter_context(connect(opened.conninfo, application_name=f"mosaic-gateway {verb}"))
        stack.enter_context(migrations.migration_session_if_direct(connection))
        yield Target(
            connection=connection,
            conninfo=opened.conninfo,
            config=config,
            alone=opened.alone,
            bundles=bundles,
        )


@contextmanager
def _database_errors() -> Iterator[None]:
    """Translate psycopg errors to `DatabaseFailedError`."""
    import psycopg

    try:
        yield
    except psycopg.Error as error:
        raise DatabaseFailedError(
            f"database error: {str(error).strip()} (SQLSTATE {error.sqlstate or 'none'})",
            hint="Make sure that the user may read the ledger and the schema mosaic, and that the server is up.",
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


def _ledger_name(value: str) -> migrations.LedgerName:
    """Return the value of ``--ledger``: SCHEMA.TABLE or TABLE."""
    *schema, table = value.split(".")
    names = (*(schema or [migrations.LEDGERS["gateway"].schema]), table)
    if len(names) != 2 or not all(0 < len(name.encode()) <= LONGEST_NAME for name in names):  # noqa: PLR2004
        raise click.BadParameter(f"{value!r} is not SCHEMA.TABLE or TABLE")
    return migrations.LedgerName(*names)


def _bundles(folder: Path | None, ledger: migrations.LedgerName | None) -> tuple[migrations.Bundle, ...]:
    if folder is not None:
        return (migrations.Bundle.from_directory(folder, ledger=ledger or migrations.LEDGERS["gateway"]),)
    if ledger is not None:
        raise UsageError("--ledger needs --from", hint="The packaged migrations have ledgers of their own.")
    return load_bundles()


def bundle_with(target: Target, tag: str) -> migrations.Bundle:
    """Return the bundle of *target* that contains the migration *tag*. Raises UsageError."""
    for bundle in target.bundles:
        if any(migration.tag == tag for migration in bundle.migrations):
            return bundle
    raise UsageError(f"there is no migration {tag}", hint=command("storage status") + " lists them.")


def bundle_warnings(bundle: migrations.Bundle, other_line_endings: Sequence[str] = ()) -> list[str]:
    """Return a sentence for each thing in *bundle* that its author should know and that does not stop a run.

    *other_line_endings* are the tags of a plan or of a run's report.
    """
    why = "is not the migration.sql of a folder" if bundle.in_folders else "has no entry in the journal"
    warnings = [f"{name} {why}: it never runs" for name in bundle.unnamed]
    if other_line_endings:
        warnings.append(
            "applied with other line endings (LF or CRLF) than the files have now, which changes nothing else: "
            + ", ".join(other_line_endings)
        )
    return warnings
