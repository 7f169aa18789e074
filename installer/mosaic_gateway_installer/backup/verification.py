"""Is a backup good? Its files are hashed, and it is restored, started, asked and compared, all beside the living home.

What is exact: every file is what the manifest says. Of an online backup or a dump, the restored database has
exactly the rows, table by table, and the schema that the running one had at the backup's instant. A cold copy
was compared with its source byte by byte when it was made; of it the restore proves that it starts and is sound.
"""

from __future__ import annotations

import secrets
import shutil
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass, replace
from datetime import UTC, datetime

import psycopg
from psycopg.conninfo import conninfo_to_dict

from mosaic_gateway.cli.reporter import Reporter
from mosaic_gateway.config import Config, process_environment, runtime_directory
from mosaic_gateway.engines.base import RuntimeMissingError
from mosaic_gateway.engines.factory import engine_for
from mosaic_gateway.engines.postgres.cluster import cluster_of, create_cluster, major_of
from mosaic_gateway.engines.postgres.runtime import Runtime, find_runtime
from mosaic_gateway.engines.postgres.sockets import outside_directories
from mosaic_gateway.engines.session import connect
from mosaic_gateway.errors import MosaicError
from mosaic_gateway.fs.files import make_directory
from mosaic_gateway.installation.engine_name import EngineName
from mosaic_gateway.installation.layout import Home
from mosaic_gateway.process.command import CommandFailedError, run
from mosaic_gateway_installer.backup.data_swap import PARTS
from mosaic_gateway_installer.backup.disk_space import check_room, full_disk_named
from mosaic_gateway_installer.backup.dump import restore_dump
from mosaic_gateway_installer.backup.manifest import DUMP, MANIFEST, BackupKind, Manifest, write_manifest
from mosaic_gateway_installer.backup.row_checksums import Contents, differing_tables, objects_hash, table_rows
from mosaic_gateway_installer.backup.stored_backups import Backup, backups_of
from mosaic_gateway_installer.backup.tree_comparison import FileEntry, hash_files
from mosaic_gateway_installer.backup.tree_copy import can_share, copy_tree
from mosaic_gateway_installer.program_copy.programs import programs_of

__all__ = ["BackupDamagedError", "Verification", "check_files", "verify_backup"]

LIMIT = 3600.0  # seconds for each of PostgreSQL's own checks
#: Engines whose programs are named by a setting; others look for theirs in their home.
BRINGS_PROGRAMS = frozenset({EngineName.POSTGRES})
NAMED = 5  # differences that an error names


class BackupDamagedError(MosaicError):
    """The backup is not what its manifest says, or does not come to life."""

    code = "BACKUP_DAMAGED"


@dataclass(frozen=True, slots=True, kw_only=True)
class Verification:
    """What was found good: files hashed, tables compared (None: nothing to compare with), and checks that were run."""

    files: int
    tables: int | None
    rows: int
    checks: tuple[str, ...]


def check_files(backup: Backup) -> None:
    """Hold every file of *backup* against the manifest. Raises `BackupDamagedError`, OSError."""
    expected = {entry.path: entry for entry in backup.manifest.files}
    found = {entry.path: entry for entry in hash_files(backup.path, skip=lambda path: path == MANIFEST)}
    wrong = [f"{part} is a link" for part in PARTS if (backup.path / part).is_symlink()]
    wrong += [f"{path} is missing" for path in expected if path not in found]
    wrong += [f"{path} was not there" for path in found if path not in expected]
    wrong += [
        f"{path} was altered" for path, entry in expected.items() if path in found and not _same(found[path], entry)
    ]
    if wrong:
        raise _damaged(backup, sorted(wrong))


def _same(found: FileEntry, noted: FileEntry) -> bool:
    """Return whether a file is as it was *noted*; what has no hash yet (`create.seal_backup`) is known by its size."""
    return found == noted or (not noted.sha256 and found.size == noted.size)


def verify_backup(backup: Backup, config: Config, report: Reporter) -> Verification:
    """Check *backup* with the help of *config*'s home, and note the success in its manifest.

    Raises `BackupDamagedError`, `DiskFullError`, `RuntimeMissingError`, OSError; the place in which it was restored
    is gone in any case.
    """
    report.begin("Hashing the files")
    check_files(backup)
    with full_disk_named(config.home.path, "The restore for comparison"), _scratch(config.home) as scratch:
        restored = _Restored(backup, config, scratch)
        report.begin("Restoring beside the present data")
        restored.restore()
        report.begin("Starting and comparing")
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
class _Restored:
    """A backup that comes to life in the home *scratch*, private and without network."""

    backup: Backup
    config: Config
    scratch: Home

    def restore(self) -> None:
        """Put the data there."""
        data = self.backup.path / "data"
        if not can_share(self.backup.path, self.scratch.path):
            check_room(self.scratch.path, self.manifest.size * 5 // 4, "The restore for comparison")
        if self.manifest.kind is BackupKind.DUMP:
            create_cluster(self.scratch, self._runtime(None))
            copy_tree(data / DUMP, self.scratch.path / DUMP)
            return
        copy_tree(data, self.scratch.data)
        if self._engine not in BRINGS_PROGRAMS:
            self.scratch = replace(self.scratch, programs=self.config.home.runtime)

    def compare(self) -> tuple[Contents, tuple[str, ...]]:
        """Start it, ask it, stop it; return the rows that are there, and what else was checked."""
        engine = engine_for(self._config())
        try:
            engine.start()
            conninfo = engine.conninfo()
            if self.manifest.kind is BackupKind.DUMP:
                restore_dump(self.scratch.path / DUMP, conninfo, self._runtime(None), scratch=self.scratch.path)
            with closing(connect(conninfo, application_name="mosaic-gateway backup")) as connection:
                tables, objects = table_rows(connection), objects_hash(connection)
                self._hold(tables, objects)
            return tables, self._check_indexes(conninfo)
        except psycopg.Error as error:
            raise _damaged(self.backup, [f"the restored database fails: {' '.join(str(error).split())}"]) from error
        except CommandFailedError as error:
            raise _damaged(self.backup, [error.message]) from error
        finally:
            engine.stop()

    def check_pages(self) -> tuple[str, ...]:
        """Check the checksum of every page of the stopped cluster, if it has them."""
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
        """What can run it here: a dump of a server goes into PostgreSQL of our own."""
        return EngineName.POSTGRES if self.manifest.kind is BackupKind.DUMP else EngineName(self.manifest.engine)

    def _config(self) -> Config:
        bindir = None
        cluster = cluster_of(self.scratch)
        if self._engine is EngineName.POSTGRES and cluster is not None:
            bindir = self._runtime(major_of(cluster)).bindir
        return replace(self.config, home=self.scratch, engine=self._engine, postgres_bin=bindir)

    def _runtime(self, major: int | None) -> Runtime:
        """Return programs for clusters of *major* (None: the newest): the home's own, else the package's."""
        own = self.config if self.config.engine is EngineName.POSTGRES else replace(self.config, postgres_bin=None)
        with suppress(RuntimeMissingError):
            return find_runtime(own.home, own.postgres_bin, major=major)
        runtime = programs_of(self.config.home).tools(self.scratch)
        if major not in {None, runtime.major}:
            raise RuntimeMissingError(
                f"{self.backup.path} is of PostgreSQL {major}; there are only programs of {runtime.version}",
                hint=f"Give --postgres-bin DIR with a PostgreSQL {major}.",
            )
        return runtime

    def _hold(self, tables: Contents, objects: str) -> None:
        """Compare what is there with what the manifest says that there was."""
        wrong = list(differing_tables(self.manifest.tables, tables)) if self.manifest.tables is not None else []
        same_form = self.manifest.kind is not BackupKind.DUMP or self._same_major()
        if self.manifest.objects not in {None, objects} and same_form:
            wrong.append("the schema's objects are other ones")
        if wrong:
            raise _damaged(self.backup, wrong)

    def _same_major(self) -> bool:
        """Return whether the dump came from the major version that it is restored with: they print objects alike."""
        return (self.manifest.server_version or "").partition(".")[0] == str(self._runtime(None).major)

    def _check_indexes(self, conninfo: str) -> tuple[str, ...]:
        """Have amcheck walk through tables and B-trees, where the programs have it."""
        if self._engine is not EngineName.POSTGRES:
            return ()
        cluster = cluster_of(self.scratch)
        program = self._runtime(major_of(cluster) if cluster is not None else None).bindir / "pg_amcheck"
        if not program.is_file():
            return ()
        place = {name: str(value) for name, value in conninfo_to_dict(conninfo).items()}
        words = ["-h", place["host"], "-p", place["port"], "-U", place["user"], "-w", "--install-missing"]
        try:
            run([program, *words, place["dbname"]], timeout=LIMIT)
        except CommandFailedError as error:
            if 'extension "amcheck" is not available' in error.message:
                return ()
            raise
        return ("pg_amcheck",)


@contextmanager
def _scratch(home: Home) -> Iterator[Home]:
    """Give a home in the backups' directory of *home*, and remove it with all that belongs to it."""
    directory = backups_of(home)
    created = not directory.exists()
    make_directory(directory)
    path = directory / f".verify.{secrets.token_hex(4)}.tmp"
    make_directory(path)
    scratch = Home(path)
    try:
        yield scratch
    finally:
        for place in (*outside_directories(scratch, runtime_directory(process_environment())), path):
            shutil.rmtree(place, ignore_errors=True)
        if created:
            with suppress(OSError):
                directory.rmdir()


def _damaged(backup: Backup, wrong: list[str]) -> BackupDamagedError:
    more = f", and {len(wrong) - NAMED} more" if len(wrong) > NAMED else ""
    return BackupDamagedError(
        f"{backup.path} is damaged: {'; '.join(wrong[:NAMED])}{more}",
        hint="Do not rely on it. Make another: mosaic-gateway backup create",
        details={"differences": wrong[:100]},
    )
