"""The step that restores a dump into an empty database on a server."""

from __future__ import annotations

import shutil
from contextlib import closing
from dataclasses import dataclass, replace
from typing import ClassVar

import psycopg

from mosaic_gateway.config import Config, load_config
from mosaic_gateway.engines import connect, engine_for, postgres
from mosaic_gateway.errors import PreflightError, RefusedError
from mosaic_gateway.hint import command
from mosaic_gateway.installation import EngineName, Home
from mosaic_gateway.process import disk_full_as, process_environment
from mosaic_gateway_installer.backup.data_swap import SWAP
from mosaic_gateway_installer.backup.dump import restore_dump
from mosaic_gateway_installer.backup.manifest import DUMP
from mosaic_gateway_installer.backup.row_checksums import Contents, differing_tables, table_rows, tables_of
from mosaic_gateway_installer.backup.stored_backups import Backup
from mosaic_gateway_installer.program_copy.home_programs import programs_of
from mosaic_gateway_installer.step import Step, StepId, Target

__all__ = ["DatabaseNotEmptyError", "RestoreDumpStep"]

APPLICATION = "mosaic-gateway backup"
#: Not compared, because a gateway writes into it at each start.
CHANGING = '"public"."storage_documents"'


class DatabaseNotEmptyError(RefusedError):
    """The database on the server is not empty; existing data is never overwritten."""

    code = "DATABASE_NOT_EMPTY"


@dataclass(slots=True)
class RestoreDumpStep(Step):
    """Restores the dump into the database given by the settings or by ``DATABASE_URL``."""

    target: Target
    backup: Backup
    id: ClassVar[StepId] = StepId.FILL
    description = "Restore the dump into the empty database on the server"

    def done(self) -> bool:
        """Return whether a killed run has restored the dump. Raises `DatabaseNotEmptyError`, PreflightError."""
        present = self._present_rows(_config(Home(self.backup.path)))
        if not present:
            return False
        expected = tuple(rows for rows in self.backup.manifest.tables or () if rows.table != CHANGING)
        wrong = differing_tables(expected, tuple(rows for rows in present if rows.table != CHANGING))
        if wrong:
            raise DatabaseNotEmptyError(
                f"the database on the server is not empty, and differs from the backup: {'; '.join(wrong[:3])}",
                hint="Nothing was changed. Create an empty database, then run: DATABASE_URL=postgresql://… "
                + command("backup restore"),
            )
        return True

    def apply(self) -> None:
        """Restore the dump in one transaction. Raises `RestoreFailedError`, `DiskFullError`, OSError."""
        home = self.target.home
        config = _config(home)
        tools = Home(home.path / SWAP / "tools")
        if config.postgres_bin is not None:
            runtime = postgres.find_runtime(home, config.postgres_bin)
        else:
            runtime = programs_of(home).tools(tools)
        conninfo = engine_for(config).conninfo()
        with disk_full_as("the restore", home.path):
            restore_dump(home.path / SWAP / DUMP, conninfo, runtime, scratch=home.path / SWAP)
        shutil.rmtree(tools.path, ignore_errors=True)

    def _present_rows(self, config: Config) -> Contents:
        """Return the rows in the server's database; an empty tuple for an empty database."""
        engine = engine_for(config)
        engine.start()
        try:
            with closing(connect(engine.conninfo(), application_name=APPLICATION)) as connection:
                return table_rows(connection) if tables_of(connection) else ()
        except psycopg.Error as error:
            raise PreflightError(f"the database cannot be queried: {' '.join(str(error).split())}") from None


def _config(home: Home) -> Config:
    config = load_config(home, flags={}, environ=process_environment())
    return replace(config, engine=EngineName.SERVER)
