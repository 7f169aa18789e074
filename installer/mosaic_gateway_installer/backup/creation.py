"""Creates a backup of an installation: chooses the kind, and renames it into place when it is complete."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path

from mosaic_gateway import fs
from mosaic_gateway.cli import Reporter
from mosaic_gateway.config import Config
from mosaic_gateway.engines import postgres
from mosaic_gateway.installation import EngineName, Home, Receipt
from mosaic_gateway.process import Request, disk_full_as
from mosaic_gateway_installer.backup import contents
from mosaic_gateway_installer.backup.copy_ahead import EarlyCopy, copy_ahead
from mosaic_gateway_installer.backup.database_at_rest import database_at_rest
from mosaic_gateway_installer.backup.disk_space import check_free_space, size_of
from mosaic_gateway_installer.backup.manifest import BackupKind
from mosaic_gateway_installer.backup.new_backup import NewBackup
from mosaic_gateway_installer.backup.stopped_gateway import gateway_stopped
from mosaic_gateway_installer.backup.stored_backups import Backup, backup_name, backups_of, remove_unfinished_backups
from mosaic_gateway_installer.backup.tree_copy import can_share, report_progress

__all__ = ["choose_kind", "cold_backup", "copy_data_ahead", "create_backup"]

#: Engines whose files can be copied while they run.
COPIED_ONLINE = frozenset({EngineName.POSTGRES})


def choose_kind(engine: EngineName, *, running: bool) -> BackupKind:
    """Return the kind of backup for a home's data. Pure.

    Only PostgreSQL can be copied while it runs; a running PGlite is stopped during the copy.
    """
    if engine is EngineName.SERVER:
        return BackupKind.DUMP
    return BackupKind.ONLINE if running and engine in COPIED_ONLINE else BackupKind.COLD


def create_backup(config: Config, receipt: Receipt, directory: Path, report: Reporter) -> Backup:
    """Back up *config*'s home into a new directory in *directory*; the caller holds the home's lock.

    Raises `DiskFullError`, `BackupFailedError`, BusyError and the engine's errors; the unfinished backup is removed.
    """
    conninfo = postgres.running_conninfo(config.home) if config.engine is EngineName.POSTGRES else None
    kind = choose_kind(config.engine, running=conninfo is not None)
    if kind is BackupKind.COLD:
        with gateway_stopped(config.home, report), database_at_rest(config.home):
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
    data = contents.require_data(home, engine)
    check_free_space(directory, size_of([*contents.settings_of(home), data]), "The backup")
    remove_unfinished_backups(home)
    temporary = fs.temporary_sibling(directory / backup_name(datetime.now(UTC), receipt.version, directory))
    try:
        with disk_full_as("the backup", directory):
            fs.make_directory(directory)
            return copy_ahead(
                data, temporary, skip=contents.is_excluded_while_running, progress=report_progress(report)
            )
    except BaseException:
        remove_unfinished_backups(home)
        raise


@contextmanager
def _new_backup(
    home: Home,
    engine: EngineName,
    receipt: Receipt,
    directory: Path,
    ahead: EarlyCopy | None = None,
) -> Iterator[NewBackup]:
    """Yield an empty backup; rename it into place after the block, and remove it if the block fails."""
    created = not directory.exists()
    data = contents.data_of(home, engine)
    if ahead is None and (data is None or not can_share(data, directory)):
        check_free_space(
            directory, size_of([*contents.settings_of(home), *([data] if data is not None else [])]), "The backup"
        )
    if ahead is None and directory == backups_of(home):  # in other directories, another home's backup may be running
        remove_unfinished_backups(home)
    try:
        with disk_full_as("the backup", directory), _staged(home, receipt, directory) as (stage, target):
            fs.make_directory(stage / "data")
            yield NewBackup(home, engine, receipt, target, stage, ahead)
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
        fs.make_directory(directory)
        target = directory / backup_name(datetime.now(UTC), receipt.version, directory)
        with fs.staged(target) as stage:
            yield stage, target
        return
    created = home.broker.ask(Request.MAKE_DIRECTORY)[0]
    stage = Path(created["path"])
    try:
        yield stage, directory / created["name"]
        home.broker.ask(Request.KEEP_DIRECTORY)
    except BaseException:
        for path in stage.iterdir():
            fs.remove_tree(path)
        raise
