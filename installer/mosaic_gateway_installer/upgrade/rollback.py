"""Rollback of an unfinished upgrade: restores data, secrets and settings from the upgrade's backup.

Each part is restored by rename(2), one after the other. A part that is still in the backup has not been restored yet,
so a repeated call continues after a kill. The upgrade mark's phase is *restoring* from before the first rename.
"""

from __future__ import annotations

from contextlib import suppress
from dataclasses import replace
from pathlib import Path

from mosaic_gateway import fs
from mosaic_gateway.errors import RefusedError
from mosaic_gateway.fs.record_fields import PROGRAM_NAME, RecordError
from mosaic_gateway.gateway.control import gateway_process
from mosaic_gateway.hint import command
from mosaic_gateway.installation import Home, Phase, UpgradeMark, remove_mark, write_mark
from mosaic_gateway.process import disk_full_as
from mosaic_gateway_installer.backup.database_at_rest import database_at_rest
from mosaic_gateway_installer.backup.manifest import BackupKind, ManifestError, read_manifest
from mosaic_gateway_installer.backup.stored_backups import backups_of, remove_unfinished_backups
from mosaic_gateway_installer.program_copy.home_programs import programs_of
from mosaic_gateway_installer.upgrade.major_version import remove_newer_programs, undo_major
from mosaic_gateway_installer.upgrade.new_cluster import remove_unfinished_cluster

__all__ = ["restore_data", "roll_back"]


class BackupGoneError(RefusedError):
    """The upgrade cannot be rolled back, because its backup has been removed."""

    code = "BACKUP_GONE"


#: Restored in this order. The data is last: if it is still in the backup, the restore is incomplete.
PARTS = ("secrets", "config.toml", "receipt.json", "data")


def restore_data(home: Home, mark: UpgradeMark) -> None:
    """Move the parts of *mark*'s backup into *home*, and remove the present ones and the backup.

    No process may use the database meanwhile. Can be repeated after a kill. Raises BusyError, OSError.
    """
    if mark.backup is None:
        with database_at_rest(home):
            undo_major(home)
        return
    backup = backups_of(home) / mark.backup
    if _is_dump(backup):  # of a server that others may use: only an administrator can decide to restore it
        return
    if mark.phase is Phase.CHANGING and not (backup / PARTS[-1]).is_dir():
        raise BackupGoneError(
            f"{backup}, the backup from before the upgrade to {mark.target_version}, is gone",
            hint="The rollback has changed nothing. Complete the upgrade instead: " + command("upgrade"),
        )
    for part in PARTS:
        if (backup / part).is_symlink():
            raise RecordError(backup / part, "", "it is a symbolic link")
    write_mark(home, replace(mark, phase=Phase.RESTORING))
    with database_at_rest(home):
        for part in PARTS:
            _restore_part(backup / part, home.path / part)
        fs.sync_directory(home.path)
        fs.erase([backup])
        with suppress(OSError):
            backup.parent.rmdir()


def roll_back(home: Home, mark: UpgradeMark) -> None:
    """Roll back the upgrade that *mark* describes, and start the previous version if it was running before.

    The caller holds the home's lock. Raises what starting the gateway raises, BusyError, OSError.
    """
    gateway_process.stop(home)
    if mark.phase in {Phase.CHANGING, Phase.RESTORING}:
        restore_data(home, mark)
    elif mark.backup is not None and not _is_dump(backups_of(home) / mark.backup):
        fs.erase([backups_of(home) / mark.backup])
    remove_unfinished_backups(home)
    remove_unfinished_cluster(home)
    remove_newer_programs(home)
    if mark.source_program is not None and PROGRAM_NAME.fullmatch(mark.source_program):
        home = _home_with_program(home, mark.source_program)
        programs_of(home).switch(mark.source_program)
    remove_mark(home)
    fs.remove_file(home.journal)
    if mark.ran:
        with disk_full_as("starting the previous version of the gateway", home.path):
            gateway_process.start(home)


def _home_with_program(home: Home, program: str) -> Home:
    """Return *home* with the programs directory that contains *program*: early versions had it in the home itself."""
    inside = replace(home, programs=None)
    return inside if (inside.runtime / program).is_dir() and not (home.runtime / program).is_dir() else home


def _is_dump(backup: Path) -> bool:
    with suppress(ManifestError):
        return read_manifest(backup).kind is BackupKind.DUMP
    return False


def _restore_part(saved: Path, target: Path) -> None:
    if not saved.exists():
        return
    if target.is_dir():  # a file is replaced atomically: a home without a receipt would not be recognized
        fs.erase([target])
    saved.rename(target)
