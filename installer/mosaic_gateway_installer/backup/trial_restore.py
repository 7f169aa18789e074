"""The trial restore of a backup, in a temporary home beside the present data."""

from __future__ import annotations

from contextlib import closing, suppress
from dataclasses import dataclass, replace

import psycopg

from mosaic_gateway.config import Config
from mosaic_gateway.engines import RuntimeMissingError, connect, engine_for, postgres
from mosaic_gateway.installation import EngineName, Home
from mosaic_gateway.process import CommandFailedError
from mosaic_gateway_installer.backup.disk_space import check_free_space
from mosaic_gateway_installer.backup.dump import restore_dump
from mosaic_gateway_installer.backup.manifest import DUMP, BackupKind, Manifest
from mosaic_gateway_installer.backup.row_checksums import Contents, differing_tables, objects_hash, table_rows
from mosaic_gateway_installer.backup.server_checks import check_indexes, check_pages
from mosaic_gateway_installer.backup.stored_backups import Backup, damaged
from mosaic_gateway_installer.backup.tree_copy import can_share, copy_tree
from mosaic_gateway_installer.program_copy.home_programs import programs_of

__all__ = ["TrialRestore"]

#: Engines whose programs can be given by a setting; others find theirs in their home.
CONFIGURABLE_PROGRAMS = frozenset({EngineName.POSTGRES})


@dataclass(slots=True)
class TrialRestore:
    """A backup that is restored and started in the temporary home *scratch*, without a TCP listener."""

    backup: Backup
    config: Config
    scratch: Home

    def restore(self) -> None:
        """Copy the data into the temporary home."""
        data = self.backup.path / "data"
        if not can_share(self.backup.path, self.scratch.path):
            check_free_space(self.scratch.path, self.manifest.size * 5 // 4, "The trial restore")
        if self.manifest.kind is BackupKind.DUMP:
            postgres.create_cluster(self.scratch, self._runtime(None))
            copy_tree(data / DUMP, self.scratch.path / DUMP)
            return
        copy_tree(data, self.scratch.data)
        if self._engine not in CONFIGURABLE_PROGRAMS:
            self.scratch = replace(self.scratch, programs=self.config.home.runtime)

    def compare(self) -> tuple[Contents, tuple[str, ...]]:
        """Start the database, compare its content, stop it; return its rows and the names of the other checks."""
        engine = engine_for(self._config())
        try:
            engine.start()
            conninfo = engine.conninfo()
            if self.manifest.kind is BackupKind.DUMP:
                restore_dump(self.scratch.path / DUMP, conninfo, self._runtime(None), scratch=self.scratch.path)
            with closing(connect(conninfo, application_name="mosaic-gateway backup")) as connection:
                tables, objects = table_rows(connection), objects_hash(connection)
                self._compare_content(tables, objects)
            return tables, self._check_indexes(conninfo)
        except psycopg.Error as error:
            raise damaged(self.backup, [f"the restored database fails: {' '.join(str(error).split())}"]) from error
        except CommandFailedError as error:
            raise damaged(self.backup, [error.message]) from error
        finally:
            engine.stop()

    def check_pages(self) -> tuple[str, ...]:
        """Verify the checksum of every page of the stopped cluster, if data checksums are enabled."""
        cluster = postgres.cluster_of(self.scratch)
        if self._engine is not EngineName.POSTGRES or cluster is None:
            return ()
        try:
            return check_pages(cluster, self._runtime(postgres.major_of(cluster)))
        except CommandFailedError as error:
            raise damaged(self.backup, [error.message]) from error

    @property
    def manifest(self) -> Manifest:
        """The backup's manifest."""
        return self.backup.manifest

    @property
    def _engine(self) -> EngineName:
        """The engine that runs the restored data: for a dump of a server, the embedded PostgreSQL."""
        return EngineName.POSTGRES if self.manifest.kind is BackupKind.DUMP else EngineName(self.manifest.engine)

    def _config(self) -> Config:
        bindir = None
        cluster = postgres.cluster_of(self.scratch)
        if self._engine is EngineName.POSTGRES and cluster is not None:
            bindir = self._runtime(postgres.major_of(cluster)).bindir
        return replace(self.config, home=self.scratch, engine=self._engine, postgres_bin=bindir)

    def _runtime(self, major: int | None) -> postgres.Runtime:
        """Return programs for clusters of *major* (None: the newest): the home's, else the package's."""
        own = self.config if self.config.engine is EngineName.POSTGRES else replace(self.config, postgres_bin=None)
        with suppress(RuntimeMissingError):
            return postgres.find_runtime(own.home, own.postgres_bin, major=major)
        runtime = programs_of(self.config.home).tools(self.scratch)
        if major not in {None, runtime.major}:
            raise RuntimeMissingError(
                f"{self.backup.path} needs PostgreSQL {major}, but only PostgreSQL {runtime.version} is available",
                hint=f"Use --postgres-bin DIR with the programs of PostgreSQL {major}.",
            )
        return runtime

    def _compare_content(self, tables: Contents, objects: str) -> None:
        """Compare rows and schema objects with the manifest. Raises `BackupDamagedError`."""
        wrong = list(differing_tables(self.manifest.tables, tables)) if self.manifest.tables is not None else []
        comparable = self.manifest.kind is not BackupKind.DUMP or self._same_major()
        if self.manifest.objects not in {None, objects} and comparable:
            wrong.append("the schema's objects differ")
        if wrong:
            raise damaged(self.backup, wrong)

    def _same_major(self) -> bool:
        """Return whether dump and trial restore have the same major version, and so the same texts of objects."""
        return (self.manifest.server_version or "").partition(".")[0] == str(self._runtime(None).major)

    def _check_indexes(self, conninfo: str) -> tuple[str, ...]:
        """Check tables and B-tree indexes with pg_amcheck, if the programs include it."""
        if self._engine is not EngineName.POSTGRES:
            return ()
        cluster = postgres.cluster_of(self.scratch)
        return check_indexes(conninfo, self._runtime(postgres.major_of(cluster) if cluster is not None else None))
