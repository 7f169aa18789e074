"""The dump of a server's database, restored into an empty database on a server."""

from __future__ import annotations

import shutil
from contextlib import closing
from dataclasses import dataclass, replace

import psycopg

from mosaic_gateway.config import Config, load_config, process_environment
from mosaic_gateway.engines.factory import engine_for
from mosaic_gateway.engines.postgres.runtime import find_runtime
from mosaic_gateway.engines.session import connect
from mosaic_gateway.errors import PreflightError, RefusedError
from mosaic_gateway.installation.engine_name import EngineName
from mosaic_gateway.installation.layout import Home
from mosaic_gateway_installer.backup.data_swap import SWAP
from mosaic_gateway_installer.backup.disk_space import full_disk_named
from mosaic_gateway_installer.backup.dump import restore_dump
from mosaic_gateway_installer.backup.manifest import DUMP
from mosaic_gateway_installer.backup.row_checksums import Contents, differing_tables, table_rows, tables_of
from mosaic_gateway_installer.backup.stored_backups import Backup
from mosaic_gateway_installer.program_copy.programs import programs_of
from mosaic_gateway_installer.step import Context

__all__ = ["DatabaseNotEmptyError", "FillStep"]

APPLICATION = "mosaic-gateway backup"
#: Each start of a gateway writes into it.
CHANGING = '"public"."storage_documents"'


class DatabaseNotEmptyError(RefusedError):
    """The database on the server holds something, which is never overwritten."""

    code = "DATABASE_NOT_EMPTY"


@dataclass(slots=True)
class FillStep:
    """Restores the dump into the database that the settings, or ``DATABASE_URL``, name."""

    context: Context
    backup: Backup
    id: str = "fill"

    @property
    def description(self) -> str:
        """What the step does."""
        return "Restore the dump into the empty database on the server"

    def done(self) -> bool:
        """Return whether a run that was killed has restored it. Raises `DatabaseNotEmptyError`, PreflightError."""
        found = self._found(_config(Home(self.backup.path)))
        if not found:
            return False
        expected = tuple(rows for rows in self.backup.manifest.tables or () if rows.table != CHANGING)
        wrong = differing_tables(expected, tuple(rows for rows in found if rows.table != CHANGING))
        if wrong:
            raise DatabaseNotEmptyError(
                f"the database on the server is not empty, nor what the backup holds: {'; '.join(wrong[:3])}",
                hint="Nothing was changed. Make an empty database and name it: DATABASE_URL=postgresql://… "
                "mosaic-gateway backup restore",
            )
        return True

    def apply(self) -> None:
        """Restore it in one transaction. Raises `RestoreFailedError`, `DiskFullError`, OSError."""
        home = self.context.home
        config = _config(home)
        tools = Home(home.path / SWAP / "tools")
        if config.postgres_bin is not None:
            runtime = find_runtime(home, config.postgres_bin)
        else:
            runtime = programs_of(home).tools(tools)
        conninfo = engine_for(config).conninfo()
        with full_disk_named(home.path, "The restore"):
            restore_dump(home.path / SWAP / DUMP, conninfo, runtime, scratch=home.path / SWAP)
        shutil.rmtree(tools.path, ignore_errors=True)

    def undo(self) -> None:
        """Leave it: another run finds it as it is, and the server is not ours to empty."""

    def _found(self, config: Config) -> Contents:
        """Return the rows that are there; none at all in an empty database."""
        engine = engine_for(config)
        engine.start()
        try:
            with closing(connect(engine.conninfo(), application_name=APPLICATION)) as connection:
                return table_rows(connection) if tables_of(connection) else ()
        except psycopg.Error as error:
            raise PreflightError(f"the database cannot be looked at: {' '.join(str(error).split())}") from None


def _config(home: Home) -> Config:
    config = load_config(home, flags={}, environ=process_environment())
    return replace(config, engine=EngineName.SERVER)
