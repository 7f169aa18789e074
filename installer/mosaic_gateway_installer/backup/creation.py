"""Creates a backup of an installation: chooses the kind, copies the parts, and writes the manifest last."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path

from mosaic_gateway.cli.reporter import Reporter
from mosaic_gateway.config import Config
from mosaic_gateway.engines.base import ClusterMissingError
from mosaic_gateway.engines.factory import engine_for
from mosaic_gateway.engines.postgres.cluster import cluster_of, major_of, system_identifier
from mosaic_gateway.engines.postgres.engine_lock import running_conninfo
from mosaic_gateway.engines.postgres.runtime import Runtime, find_runtime
from mosaic_gateway.errors import BusyError
from mosaic_gateway.fs.files import make_directory
from mosaic_gateway.fs.staging import (
    TEMPORARY,
    remove_temporaries,
    remove_tree,
    staged,
    sync_directory,
    temporary_sibling,
)
from mosaic_gateway.gateway.control import gateway_process
from mosaic_gateway.hint import command
from mosaic_gateway.installation.engine_name import EngineName
from mosaic_gateway.installation.layout import Home
from mosaic_gateway.installation.receipt import Receipt
from mosaic_gateway.process.disk_full import disk_full_as
from mosaic_gateway.process.root_requests import Request
from mosaic_gateway_installer.backup.copy_ahead import EarlyCopy, bring_up_to_date, copy_ahead
from mosaic_gateway_installer.backup.database_at_rest import database_at_rest
from mosaic_gateway_installer.backup.disk_space import check_free_space, size_of
from mosaic_gateway_installer.backup.dump import dump_server
from mosaic_gateway_installer.backup.manifest import (
    DUMP,
    MANIFEST,
    BackupKind,
    Manifest,
    read_manifest,
    write_manifest,
)
from mosaic_gateway_installer.backup.online_copy import BackupFailedError, OnlineFacts, copy_running_cluster
from mosaic_gateway_installer.backup.stored_backups import Backup, backup_name, backups_of
from mosaic_gateway_installer.backup.tree_comparison import FileEntry, compare_trees, hash_files
from mosaic_gateway_installer.backup.tree_copy import Skip, can_share, copy_tree
from mosaic_gateway_installer.program_copy.home_programs import programs_of

__all__ = [
    "add_missing_hashes",
    "choose_kind",
    "cold_backup",
    "copy_data_ahead",
    "create_backup",
    "data_of",
    "remove_leftovers",
    "settings_of",
]

#: Engines whose files can be copied while they run.
COPIED_ONLINE = frozenset({EngineName.POSTGRES})


def choose_kind(engine: EngineName, *, running: bool) -> BackupKind:
    """Return the kind of backup for a home's data. Pure.

    Only PostgreSQL can be copied while it runs; a running PGlite is stopped during the copy.
    """
    if engine is EngineName.SERVER:
        return BackupKind.DUMP
    return BackupKind.ONLINE if running and engine in COPIED_ONLINE else BackupKind.COLD


def data_of(home: Home, engine: EngineName) -> Path | None:
    """Return the directory in *home* with the data of *engine*, None if there is none (yet)."""
    if engine is EngineName.POSTGRES:
        return cluster_of(home)
    path = home.data / str(engine)
    return path if path.is_dir() else None


def settings_of(home: Home) -> tuple[Path, ...]:
    """Return the existing files and directories that a backup includes beside the data."""
    return tuple(path for path in (home.secrets, home.config_file, home.receipt) if path.exists())


def create_backup(config: Config, receipt: Receipt, directory: Path, report: Reporter) -> Backup:
    """Back up *config*'s home into a new directory in *directory*; the caller holds the home's lock.

    Raises `DiskFullError`, `BackupFailedError`, BusyError and the engine's errors; the unfinished backup is removed.
    """
    conninfo = running_conninfo(config.home) if config.engine is EngineName.POSTGRES else None
    kind = choose_kind(config.engine, running=conninfo is not None)
    if kind is BackupKind.COLD:
        with _stopped(config.home, report), database_at_rest(config.home):
            return cold_backup(config.home, receipt, config.engine, directory, report)
    with _new_backup(config.home, config.engine, receipt, directory) as new:
        if conninfo is not None:
            facts = new.copy_online(conninfo, report)
        else:
            report.begin("Dumping the database")
            facts = new.dump(config)
        return new.finish(kind, report, facts)


def cold_backup(
    home: Home,
    receipt: Receipt,
    engine: EngineName,
    directory: Path,
    report: Reporter,
    *,
    hashes: bool = True,
    ahead: EarlyCopy | None = None,
) -> Backup:
    """Back up *home*, whose database is stopped, into a new directory in *directory*, and compare every byte.

    Without *hashes* this takes half the time, and the manifest is incomplete until `add_missing_hashes`. *ahead* is the
    copy that `copy_data_ahead` created in *directory*; it becomes part of the backup.
    Raises `DiskFullError`, `BackupFailedError`, OSError, after removing the unfinished backup.
    """
    with _new_backup(home, engine, receipt, directory, ahead) as new:
        new.copy_cold(report)
        return new.finish(BackupKind.COLD, report, hashes=hashes)


def copy_data_ahead(home: Home, receipt: Receipt, engine: EngineName, directory: Path, report: Reporter) -> EarlyCopy:
    """Copy the data of *home*, whose database is running, for a later `cold_backup` into *directory*.

    Raises `DiskFullError`, ClusterMissingError, OSError, after removing the copy.
    """
    data = data_of(home, engine)
    if data is None:
        raise _no_data_error(home)
    check_free_space(directory, size_of([*settings_of(home), data]), "The backup")
    remove_leftovers(home)
    temporary = temporary_sibling(directory / backup_name(datetime.now(UTC), receipt.version, directory))
    try:
        with disk_full_as("the backup", directory):
            make_directory(directory)
            return copy_ahead(data, temporary, skip=_excluded_while_running, progress=_report_progress(report))
    except BaseException:
        remove_leftovers(home)
        raise


def remove_leftovers(home: Home) -> None:
    """Remove unfinished backups in *home*, and the directory of backups if it is empty then."""
    remove_temporaries(backups_of(home))
    with suppress(OSError):
        backups_of(home).rmdir()


def add_missing_hashes(backup: Path) -> None:
    """Add the missing hashes to the manifest of *backup*. Raises `BackupFailedError`, OSError."""
    manifest = read_manifest(backup)
    known = {entry.path: entry for entry in manifest.files}
    files = hash_files(backup, skip=lambda path: path == MANIFEST, known=known)
    if [(entry.path, entry.size) for entry in files] != [(entry.path, entry.size) for entry in manifest.files]:
        raise BackupFailedError(
            f"{backup} was changed after its creation", hint="Create another backup: " + command("backup create")
        )
    write_manifest(backup, replace(manifest, files=files))


@contextmanager
def _new_backup(
    home: Home,
    engine: EngineName,
    receipt: Receipt,
    directory: Path,
    ahead: EarlyCopy | None = None,
) -> Iterator[_NewBackup]:
    """Yield an empty backup; rename it into place after the block, and remove it if the block fails."""
    created = not directory.exists()
    data = data_of(home, engine)
    if ahead is None and (data is None or not can_share(data, directory)):
        check_free_space(directory, size_of([*settings_of(home), *([data] if data is not None else [])]), "The backup")
    if ahead is None and directory == backups_of(home):  # in other directories, another home's backup may be running
        remove_leftovers(home)
    try:
        with disk_full_as("the backup", directory), _staged(home, receipt, directory) as (stage, target):
            make_directory(stage / "data")
            yield _NewBackup(home, engine, receipt, target, stage, ahead)
            if ahead is not None:
                ahead.directory.rmdir()
    except BaseException:
        if created:
            with suppress(OSError):
                directory.rmdir()
        raise


@contextmanager
def _staged(home: Home, receipt: Receipt, directory: Path) -> Iterator[tuple[Path, Path]]:
    """Yield the temporary directory in which a new backup is built, and the backup's final path.

    Root's broker creates both if root has named a *directory* outside of the home, which this user may not write to.
    """
    if home.broker is None or directory.is_relative_to(home.path):
        make_directory(directory)
        target = directory / backup_name(datetime.now(UTC), receipt.version, directory)
        with staged(target) as stage:
            yield stage, target
        return
    created = home.broker.ask(Request.MAKE_DIRECTORY)[0]
    stage = Path(created["path"])
    try:
        yield stage, directory / created["name"]
        home.broker.ask(Request.KEEP_DIRECTORY)
    except BaseException:
        for path in stage.iterdir():
            remove_tree(path)
        raise


@dataclass(slots=True)
class _NewBackup:
    """A backup in progress, in the temporary directory *stage*."""

    home: Home
    engine: EngineName
    receipt: Receipt
    target: Path
    stage: Path
    ahead: EarlyCopy | None = None

    def copy_online(self, conninfo: str, report: Reporter) -> OnlineFacts:
        """Copy the cluster that runs at *conninfo*."""
        report.begin("Copying the running database")
        cluster = self._data()
        return copy_running_cluster(
            cluster, self.stage / "data" / cluster.name, conninfo, progress=_report_progress(report)
        )

    def copy_cold(self, report: Reporter) -> None:
        """Copy the data of the stopped database, or use the copy created ahead."""
        data = self._data()
        if self.ahead is not None:
            self.ahead.copy.rename(self._staged_path(data))
            return
        report.begin("Copying the data")
        copy_tree(data, self._staged_path(data), skip=_excluded, progress=_report_progress(report))

    def dump(self, config: Config) -> OnlineFacts:
        """Dump the server's database."""
        tools = self.stage / "tools"
        runtime = _client(config, tools)
        conninfo = engine_for(config).conninfo()
        facts = dump_server(conninfo, self.stage / "data" / DUMP, runtime)
        remove_tree(tools)
        return facts

    def finish(
        self, kind: BackupKind, report: Reporter, facts: OnlineFacts | None = None, *, hashes: bool = True
    ) -> Backup:
        """Add secrets and settings, compare all files that do not change meanwhile, and write the manifest."""
        for path in settings_of(self.home):
            copy_tree(path, self.stage / path.name, skip=_is_temporary)
        report.begin("Checking the copy")
        files = self._hashed(kind, hashes=hashes)
        cluster = None
        if kind is not BackupKind.DUMP and self.engine is EngineName.POSTGRES:
            cluster = self._staged_path(self._data())
        manifest = Manifest(
            instance_id=self.receipt.instance_id,
            created_at=datetime.now(UTC).isoformat(timespec="seconds"),
            version=self.receipt.version,
            engine=str(self.engine),
            kind=kind,
            files=files,
            server_version=facts.server_version if facts is not None else _major(cluster),
            system_identifier=system_identifier(cluster) if cluster is not None else None,
            schema=self.receipt.schema,
            tables=facts.tables if facts is not None else None,
            objects=facts.objects if facts is not None else None,
        )
        write_manifest(self.stage, manifest)
        for directory in (self.stage / "data", self.stage):
            sync_directory(directory)
        return Backup(self.target, manifest)

    def _hashed(self, kind: BackupKind, *, hashes: bool) -> tuple[FileEntry, ...]:
        """Return the entry of every file; files that do not change meanwhile are also compared with their source."""
        files: list[FileEntry] = []
        for path in settings_of(self.home):
            files += self._compare(path, _is_temporary, hashes=hashes)
        if kind is BackupKind.COLD:
            files += self._compare(self._data(), _excluded, hashes=hashes)
        else:
            files += _below(Path("data"), hash_files(self.stage / "data"))
        return tuple(sorted(files, key=lambda entry: entry.path))

    def _compare(self, path: Path, skip: Skip, *, hashes: bool) -> list[FileEntry]:
        copy = self._staged_path(path)
        if self.ahead is not None and path == self._data():
            result = bring_up_to_date(path, copy, self.ahead.files, skip=skip)
        else:
            result = compare_trees(path, copy, skip=skip, hashes=hashes)
        if not result.equal:
            first, more = result.differences[0], len(result.differences) - 1
            raise BackupFailedError(
                f"the copy differs from {path}: {first.path} ({first.kind}), and {more} more",
                hint="Another process is changing these files. Stop it, then run the command again.",
            )
        return _below(copy.relative_to(self.stage), result.files)

    def _data(self) -> Path:
        data = data_of(self.home, self.engine)
        if data is None:
            raise _no_data_error(self.home)
        return data

    def _staged_path(self, path: Path) -> Path:
        return self.stage / path.relative_to(self.home.path)


def _no_data_error(home: Home) -> ClusterMissingError:
    return ClusterMissingError(
        f"{home.path} has no data to back up", hint="Run " + command("install", home=home.path) + "."
    )


def _below(prefix: Path, entries: tuple[FileEntry, ...]) -> list[FileEntry]:
    return [replace(entry, path=(prefix / entry.path).as_posix()) for entry in entries]


def _client(config: Config, tools: Path) -> Runtime:
    """Return programs with a ``pg_dump``: the configured ones, else a copy of the wheel's."""
    if config.postgres_bin is not None:
        return find_runtime(config.home, config.postgres_bin)
    return programs_of(config.home).tools(Home(tools))


def _excluded(path: str) -> bool:
    """Return whether a cold copy of data excludes *path*: the files that describe a running postmaster."""
    return path in {"postmaster.pid", "postmaster.opts"}


def _excluded_while_running(path: str) -> bool:
    """Return whether a copy created ahead excludes *path*: also shared memory segments, which are not data."""
    return _excluded(path) or path.startswith("pg_dynshmem/")


def _is_temporary(path: str) -> bool:
    """Return whether *path* is a temporary file that a killed `files.write_file` left."""
    return TEMPORARY.fullmatch(path) is not None


def _major(cluster: Path | None) -> str | None:
    return None if cluster is None else str(major_of(cluster))


def _report_progress(report: Reporter) -> Callable[[int], None]:
    """Return a callback that reports the progress of a copy once for every 64 MB."""
    step, last = 64 * 1024 * 1024, 0

    def emit(done: int) -> None:
        nonlocal last
        if done - last >= step:
            last = done
            report.begin(f"Copying: {done // 1024**2} MB")

    return emit


@contextmanager
def _stopped(home: Home, report: Reporter) -> Iterator[None]:
    """Stop a gateway that runs in the background, and start it again after the block."""
    state = gateway_process.state_of(home, ask=False)
    if not state.running:
        yield
        return
    if state.supervisor is None:
        raise GatewayInForegroundError(
            f"a gateway runs in the foreground (process {state.pid}), and its database cannot be copied while it runs",
            hint="Stop it, then run the command again.",
        )
    report.begin("Stopping the gateway for the copy")
    gateway_process.stop(home)
    try:
        yield
    finally:
        report.begin("Starting the gateway again")
        with disk_full_as("starting the gateway again", home.path):
            gateway_process.start(home)


class GatewayInForegroundError(BusyError):
    """The gateway would have to be stopped, and could not be started again, because it runs in the foreground."""

    code = "GATEWAY_IN_FOREGROUND"
