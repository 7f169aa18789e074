"""Makes a backup of an installation: chooses the kind, puts its parts together, and writes the manifest last."""

from __future__ import annotations

import secrets
import shutil
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
from mosaic_gateway.gateway.control import gateway_process
from mosaic_gateway.installation.engine_name import EngineName
from mosaic_gateway.installation.layout import Home
from mosaic_gateway.process.root_requests import Request
from mosaic_gateway_installer.backup.copy_ahead import EarlyCopy, bring_up_to_date, copy_ahead
from mosaic_gateway_installer.backup.database_at_rest import database_at_rest
from mosaic_gateway_installer.backup.disk_space import check_room, full_disk_named, size_of
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
from mosaic_gateway_installer.backup.stored_backups import Backup, backup_name, backups_of, leftovers
from mosaic_gateway_installer.backup.tree_comparison import FileEntry, compare_trees, hash_files
from mosaic_gateway_installer.backup.tree_copy import Skip, can_share, copy_tree, remove_tree, staged, sync_directory
from mosaic_gateway_installer.program_copy.programs import programs_of
from mosaic_gateway_installer.receipt import Receipt

__all__ = [
    "choose_kind",
    "cold_backup",
    "create_backup",
    "data_ahead",
    "data_of",
    "remove_leftovers",
    "seal_backup",
    "settings_of",
]

#: Engines whose files can be copied while they run.
COPIED_AT_WORK = frozenset({EngineName.POSTGRES})


def choose_kind(engine: EngineName, *, running: bool) -> BackupKind:
    """Return how a home's data is to be taken. Pure.

    Only PostgreSQL can be copied while it runs; another engine that does is stopped for as long as the copy takes.
    """
    if engine is EngineName.SERVER:
        return BackupKind.DUMP
    return BackupKind.ONLINE if running and engine in COPIED_AT_WORK else BackupKind.COLD


def data_of(home: Home, engine: EngineName) -> Path | None:
    """Return the directory in *home* that holds the data of *engine*, None where there is none (yet)."""
    if engine is EngineName.POSTGRES:
        return cluster_of(home)
    path = home.data / str(engine)
    return path if path.is_dir() else None


def settings_of(home: Home) -> tuple[Path, ...]:
    """Return what belongs to a backup beside the data, as far as it is there."""
    return tuple(path for path in (home.secrets, home.config_file, home.receipt) if path.exists())


def create_backup(config: Config, receipt: Receipt, directory: Path, report: Reporter) -> Backup:
    """Back up *config*'s home into a new directory in *directory*; the caller holds the home's lock.

    Raises `DiskFullError`, `BackupFailedError`, BusyError and what the engine raises; then nothing is left of it.
    """
    conninfo = running_conninfo(config.home) if config.engine is EngineName.POSTGRES else None
    kind = choose_kind(config.engine, running=conninfo is not None)
    if kind is BackupKind.COLD:
        with _stopped(config.home, report), database_at_rest(config.home):
            return cold_backup(config.home, receipt, config.engine, directory, report)
    with _begun(config.home, config.engine, receipt, directory) as new:
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
    """Back up *home*, whose database is at rest, into a new directory in *directory*; every byte is compared.

    Without *hashes* it takes half the time, and the manifest lacks some until `seal_backup`. *ahead*: what
    `data_ahead` copied into *directory*, which becomes the backup's.
    Raises `DiskFullError`, `BackupFailedError`, OSError; then nothing is left of it.
    """
    with _begun(home, engine, receipt, directory, ahead) as new:
        new.copy_cold(report)
        return new.finish(BackupKind.COLD, report, hashes=hashes)


def data_ahead(home: Home, receipt: Receipt, engine: EngineName, directory: Path, report: Reporter) -> EarlyCopy:
    """Copy the data of *home*, at which its database works, for a `cold_backup` into *directory*.

    Raises `DiskFullError`, ClusterMissingError, OSError; then nothing is left of it.
    """
    data = data_of(home, engine)
    if data is None:
        raise _no_data(home)
    check_room(directory, size_of([*settings_of(home), data]), "The backup")
    remove_leftovers(home)
    name = backup_name(datetime.now(UTC), receipt.version, directory)
    place = directory / f".{name}.{secrets.token_hex(4)}.tmp"
    try:
        with full_disk_named(directory, "The backup"):
            make_directory(directory)
            return copy_ahead(data, place, skip=_left_out_at_work, progress=_summary(report))
    except BaseException:
        remove_leftovers(home)
        raise


def remove_leftovers(home: Home) -> None:
    """Remove what unfinished backups have left in *home*, and the directory of backups if it is empty then."""
    for path in leftovers(backups_of(home)):
        shutil.rmtree(path, ignore_errors=True)
    with suppress(OSError):
        backups_of(home).rmdir()


def seal_backup(backup: Path) -> None:
    """Note the hashes of *backup*'s files that it was made without. Raises `BackupFailedError`, OSError."""
    manifest = read_manifest(backup)
    known = {entry.path: entry for entry in manifest.files}
    found = hash_files(backup, skip=lambda path: path == MANIFEST, known=known)
    if [(entry.path, entry.size) for entry in found] != [(entry.path, entry.size) for entry in manifest.files]:
        raise BackupFailedError(f"{backup} was changed after it had been made", hint="Take another backup.")
    write_manifest(backup, replace(manifest, files=found))


@contextmanager
def _begun(
    home: Home,
    engine: EngineName,
    receipt: Receipt,
    directory: Path,
    ahead: EarlyCopy | None = None,
) -> Iterator[_NewBackup]:
    """Give a backup to be filled; it is in its place once the block has ended, and not there if that fails."""
    created = not directory.exists()
    data = data_of(home, engine)
    if ahead is None and (data is None or not can_share(data, directory)):
        check_room(directory, size_of([*settings_of(home), *([data] if data is not None else [])]), "The backup")
    if ahead is None and directory == backups_of(home):  # elsewhere they may be another home's, at work
        remove_leftovers(home)
    try:
        with full_disk_named(directory, "The backup"), _staged(home, receipt, directory) as (stage, target):
            make_directory(stage / "data")
            yield _NewBackup(home, engine, receipt, target, stage, ahead)
            if ahead is not None:
                ahead.place.rmdir()
    except BaseException:
        if created:
            with suppress(OSError):
                directory.rmdir()
        raise


@contextmanager
def _staged(home: Home, receipt: Receipt, directory: Path) -> Iterator[tuple[Path, Path]]:
    """Give where a new backup in *directory* is built, and where it will be.

    Where root has named a directory that is closed to us, root's process makes both.
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
    """A backup under way, in the directory *stage*."""

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
        return copy_running_cluster(cluster, self.stage / "data" / cluster.name, conninfo, progress=_summary(report))

    def copy_cold(self, report: Reporter) -> None:
        """Copy the data, which nobody uses, or take what was copied ahead."""
        data = self._data()
        if self.ahead is not None:
            self.ahead.copy.rename(self._place(data))
            return
        report.begin("Copying the data")
        copy_tree(data, self._place(data), skip=_left_out, progress=_summary(report))

    def dump(self, config: Config) -> OnlineFacts:
        """Dump the server's database."""
        tools = self.stage / "tools"
        runtime = _client(config, tools)
        conninfo = engine_for(config).conninfo()
        facts = dump_server(conninfo, self.stage / "data" / DUMP, runtime)
        shutil.rmtree(tools, ignore_errors=True)
        return facts

    def finish(
        self, kind: BackupKind, report: Reporter, facts: OnlineFacts | None = None, *, hashes: bool = True
    ) -> Backup:
        """Add secrets and settings, compare what can be compared, and write the manifest."""
        for path in settings_of(self.home):
            copy_tree(path, self.stage / path.name, skip=_torn)
        report.begin("Checking the copy")
        files = self._hashed(kind, hashes=hashes)
        cluster = None
        if kind is not BackupKind.DUMP and self.engine is EngineName.POSTGRES:
            cluster = self._place(self._data())
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
        """Return every file with its hash; what does not change meanwhile is compared with its source on the way."""
        found: list[FileEntry] = []
        for path in settings_of(self.home):
            found += self._compared(path, _torn, hashes=hashes)
        if kind is BackupKind.COLD:
            found += self._compared(self._data(), _left_out, hashes=hashes)
        else:
            found += _below(Path("data"), hash_files(self.stage / "data"))
        return tuple(sorted(found, key=lambda entry: entry.path))

    def _compared(self, path: Path, skip: Skip, *, hashes: bool) -> list[FileEntry]:
        copy = self._place(path)
        if self.ahead is not None and path == self._data():
            compared = bring_up_to_date(path, copy, self.ahead.files, skip=skip)
        else:
            compared = compare_trees(path, copy, skip=skip, hashes=hashes)
        if not compared.equal:
            first, more = compared.differences[0], len(compared.differences) - 1
            raise BackupFailedError(
                f"the copy is not what {path} is: {first.path} ({first.kind}), and {more} more",
                hint="Something changes these files. Stop it, then run the command again.",
            )
        return _below(copy.relative_to(self.stage), compared.files)

    def _data(self) -> Path:
        data = data_of(self.home, self.engine)
        if data is None:
            raise _no_data(self.home)
        return data

    def _place(self, path: Path) -> Path:
        return self.stage / path.relative_to(self.home.path)


def _no_data(home: Home) -> ClusterMissingError:
    return ClusterMissingError(
        f"{home.path} holds no data to back up", hint="Run mosaic-gateway install with this --home."
    )


def _below(prefix: Path, entries: tuple[FileEntry, ...]) -> list[FileEntry]:
    return [replace(entry, path=(prefix / entry.path).as_posix()) for entry in entries]


def _client(config: Config, tools: Path) -> Runtime:
    """Return programs with a ``pg_dump``: those that were named, else a copy of the wheel's."""
    if config.postgres_bin is not None:
        return find_runtime(config.home, config.postgres_bin)
    return programs_of(config.home).tools(Home(tools))


def _left_out(path: str) -> bool:
    """Return whether a cold copy of data leaves out *path*: what says who runs it, and nobody does."""
    return path in {"postmaster.pid", "postmaster.opts"}


def _left_out_at_work(path: str) -> bool:
    """Return whether a copy made ahead leaves out *path*: memory that processes share is none of the data."""
    return _left_out(path) or path.startswith("pg_dynshmem/")


def _torn(path: str) -> bool:
    """Return whether *path* is what a killed write left (`files.write_file`)."""
    return path.startswith(".") and path.endswith(".tmp")


def _major(cluster: Path | None) -> str | None:
    return None if cluster is None else str(major_of(cluster))


def _summary(report: Reporter) -> Callable[[int], None]:
    """Return what tells *report* how far a copy is, once for every 64 MB."""
    step, last = 64 * 1024 * 1024, 0

    def emit(done: int) -> None:
        nonlocal last
        if done - last >= step:
            last = done
            report.begin(f"Copying: {done // 1024**2} MB")

    return emit


@contextmanager
def _stopped(home: Home, report: Reporter) -> Iterator[None]:
    """Stop a gateway that runs in the background for the length of the block."""
    state = gateway_process.state_of(home, ask=False)
    if not state.running:
        yield
        return
    if state.supervisor is None:
        raise GatewayInForegroundError(
            f"a gateway runs in the foreground (process {state.pid}), and its database cannot be copied meanwhile",
            hint="End it, then run the command again.",
        )
    report.begin("Stopping the gateway for the copy")
    gateway_process.stop(home)
    try:
        yield
    finally:
        report.begin("Starting the gateway again")
        with full_disk_named(home.path, "Starting the gateway again"):
            gateway_process.start(home)


class GatewayInForegroundError(BusyError):
    """The gateway would have to be stopped, and we could not start it again."""

    code = "GATEWAY_IN_FOREGROUND"
