"""Verifies a backup: checks all hashes, and does a trial restore beside the present data.

Every file is checked against the manifest. For an online backup or a dump, the restored database must have exactly
the rows of each table, and the schema, that the running database had at the backup's instant. A cold backup was
compared with its source byte by byte at its creation; the trial restore shows that it starts and passes PostgreSQL's
own checks.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass, replace
from datetime import UTC, datetime

import psycopg
from psycopg.conninfo import conninfo_to_dict

from mosaic_gateway.cli.reporter import Reporter
from mosaic_gateway.config import Config
from mosaic_gateway.engines.base import RuntimeMissingError
from mosaic_gateway.engines.factory import engine_for
from mosaic_gateway.engines.postgres.cluster import cluster_of, create_cluster, major_of
from mosaic_gateway.engines.postgres.runtime import Runtime, find_runtime
from mosaic_gateway.engines.postgres.sockets import outside_directories
from mosaic_gateway.engines.session import connect
from mosaic_gateway.errors import MosaicError
from mosaic_gateway.fs.files import make_directory
from mosaic_gateway.fs.staging import remove_tree, temporary
from mosaic_gateway.hint import command
from mosaic_gateway.installation.engine_name import EngineName
from mosaic_gateway.installation.layout import Home
from mosaic_gateway.process.command import CommandFailedError, run
from mosaic_gateway.process.disk_full import disk_full_as
from mosaic_gateway.process.environment import process_environment, runtime_directory
from mosaic_gateway_installer.backup.data_swap import PARTS
from mosaic_gateway_installer.backup.disk_space import check_free_space
from mosaic_gateway_installer.backup.dump import restore_dump
from mosaic_gateway_installer.backup.manifest import DUMP, MANIFEST, BackupKind, Manifest, write_manifest
from mosaic_gateway_installer.backup.row_checksums import Contents, differing_tables, objects_hash, table_rows
from mosaic_gateway_installer.backup.stored_backups import Backup, backups_of
from mosaic_gateway_installer.backup.tree_comparison import FileEntry, hash_files
from mosaic_gateway_installer.backup.tree_copy import can_share, copy_tree
from mosaic_gateway_installer.program_copy.home_programs import programs_of

__all__ = ["BackupDamagedError", "Verification", "check_files", "verify_backup"]

LIMIT = 3600.0  # seconds for each of PostgreSQL's own checks
#: Engines whose programs can be given by a setting; others find theirs in their home.
CONFIGURABLE_PROGRAMS = frozenset({EngineName.POSTGRES})
MAX_NAMED = 5  # differences that an error message names


class BackupDamagedError(MosaicError):
    """The backup differs from its manifest, or its trial restore failed."""

    code = "BACKUP_DAMAGED"


@dataclass(frozen=True, slots=True, kw_only=True)
class Verification:
    """The numbers of files hashed, tables compared (None for a cold backup) and rows, and PostgreSQL's own checks."""

    files: int
    tables: int | None
    rows: int
    checks: tuple[str, ...]


def check_files(backup: Backup) -> None:
    """Verify every file of *backup* against the manifest. Raises `BackupDamagedError`, OSError."""
    expected = {entry.path: entry for entry in backup.manifest.files}
    actual = {entry.path: entry for entry in hash_files(backup.path, skip=lambda path: path == MANIFEST)}
    wrong = [f"{part} is a link" for part in PARTS if (backup.path / part).is_symlink()]
    wrong += [f"{path} is missing" for path in expected if path not in actual]
    wrong += [f"{path} is unexpected" for path in actual if path not in expected]
    wrong += [
        f"{path} was changed" for path, entry in expected.items() if path in actual and not _same(actual[path], entry)
    ]
    if wrong:
        raise _damaged(backup, sorted(wrong))


def _same(actual: FileEntry, expected: FileEntry) -> bool:
    """Return whether two entries are equal; without an expected hash (see `add_missing_hashes`), the sizes decide."""
    return actual == expected or (not expected.sha256 and actual.size == expected.size)


def verify_backup(backup: Backup, config: Config, report: Reporter) -> Verification:
    """Verify *backup* by a trial restore in *config*'s home, and record the success in its manifest.

    The trial restore is always removed. Raises `BackupDamagedError`, `DiskFullError`, `RuntimeMissingError`, OSError.
    """
    report.begin("Verifying the checksums")
    check_files(backup)
    with disk_full_as("the trial restore", config.home.path), _scratch(config.home) as scratch:
        restored = _TrialRestore(backup, config, scratch)
        report.begin("Restoring beside the present data")
        restored.restore()
        report.begin("Starting the restored database and comparing its content")
        tables, checks = restored.compare()
        report.begin("Checking every page")
        checks += restored.check_pages()
    at = datetime.now(UTC).isoformat(timespec="seconds")
    write_manifest(backup.path, replace(backup.manifest, verified_at=at))
    return Verification(
        files=len(backup.manifest.files),
        tables=None if backup.manifest.tables is None else len(backup.manifest.tables),
        rows=sum(rows.count for rows in tables),
        checks=checks,
    )


@dataclass(slots=True)
class _TrialRestore:
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
            create_cluster(self.scratch, self._runtime(None))
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
            raise _damaged(self.backup, [f"the restored database fails: {' '.join(str(error).split())}"]) from error
        except CommandFailedError as error:
            raise _damaged(self.backup, [error.message]) from error
        finally:
            engine.stop()

    def check_pages(self) -> tuple[str, ...]:
        """Verify the checksum of every page of the stopped cluster, if data checksums are enabled."""
        cluster = cluster_of(self.scratch)
        if self._engine is not EngineName.POSTGRES or cluster is None:
            return ()
        program = self._runtime(major_of(cluster)).bindir / "pg_checksums"
        if not program.is_file():
            return ()
        try:
            run([program, "--check", "-D", cluster], timeout=LIMIT)
        except CommandFailedError as error:
            if "data checksums are not enabled" in error.message:
                return ()
            raise _damaged(self.backup, [error.message]) from error
        return ("pg_checksums",)

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
        cluster = cluster_of(self.scratch)
        if self._engine is EngineName.POSTGRES and cluster is not None:
            bindir = self._runtime(major_of(cluster)).bindir
        return replace(self.config, home=self.scratch, engine=self._engine, postgres_bin=bindir)

    def _runtime(self, major: int | None) -> Runtime:
        """Return programs for clusters of *major* (None: the newest): the home's, else the package's."""
        own = self.config if self.config.engine is EngineName.POSTGRES else replace(self.config, postgres_bin=None)
        with suppress(RuntimeMissingError):
            return find_runtime(own.home, own.postgres_bin, major=major)
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
            raise _damaged(self.backup, wrong)

    def _same_major(self) -> bool:
        """Return whether dump and trial restore have the same major version, and so the same texts of objects."""
        return (self.manifest.server_version or "").partition(".")[0] == str(self._runtime(None).major)

    def _check_indexes(self, conninfo: str) -> tuple[str, ...]:
        """Check tables and B-tree indexes with pg_amcheck, if the programs include it."""
        if self._engine is not EngineName.POSTGRES:
            return ()
        cluster = cluster_of(self.scratch)
        program = self._runtime(major_of(cluster) if cluster is not None else None).bindir / "pg_amcheck"
        if not program.is_file():
            return ()
        server = {name: str(value) for name, value in conninfo_to_dict(conninfo).items()}
        words = ["-h", server["host"], "-p", server["port"], "-U", server["user"], "-w", "--install-missing"]
        try:
            run([program, *words, server["dbname"]], timeout=LIMIT)
        except CommandFailedError as error:
            if 'extension "amcheck" is not available' in error.message:
                return ()
            raise
        return ("pg_amcheck",)


@contextmanager
def _scratch(home: Home) -> Iterator[Home]:
    """Yield a temporary home in the backups' directory of *home*; remove it and its socket directories afterwards."""
    directory = backups_of(home)
    created = not directory.exists()
    make_directory(directory)
    try:
        with temporary(directory / "verify") as path:
            make_directory(path)
            scratch = Home(path)
            try:
                yield scratch
            finally:
                for sockets in outside_directories(scratch, runtime_directory(process_environment())):
                    remove_tree(sockets)
    finally:
        if created:
            with suppress(OSError):
                directory.rmdir()


def _damaged(backup: Backup, wrong: list[str]) -> BackupDamagedError:
    more = f", and {len(wrong) - MAX_NAMED} more" if len(wrong) > MAX_NAMED else ""
    return BackupDamagedError(
        f"{backup.path} is damaged: {'; '.join(wrong[:MAX_NAMED])}{more}",
        hint="Do not use it. Create another backup: " + command("backup create"),
        details={"differences": wrong[:100]},
    )
