"""The way back: data, secrets and settings of the backup in the place of those that an upgrade has changed.

By renames only, one part after the other. A part that still lies in the backup was not brought back yet, so the
same call goes on wherever a killed one stopped; the mark says *restoring* from before the first rename.
"""

from __future__ import annotations

from contextlib import suppress
from dataclasses import replace
from pathlib import Path

from mosaic_gateway.errors import RefusedError
from mosaic_gateway.fs.files import make_directory, remove_file, remove_path
from mosaic_gateway.fs.record_fields import PROGRAM_NAME, RecordError
from mosaic_gateway.gateway.control import gateway_process
from mosaic_gateway.installation.layout import Home
from mosaic_gateway.installation.upgrade_state import Phase, UpgradeMark, remove_mark, write_mark
from mosaic_gateway_installer.backup.creation import remove_leftovers
from mosaic_gateway_installer.backup.database_at_rest import database_at_rest
from mosaic_gateway_installer.backup.disk_space import full_disk_named
from mosaic_gateway_installer.backup.manifest import BackupKind, ManifestError, read_manifest
from mosaic_gateway_installer.backup.stored_backups import backups_of
from mosaic_gateway_installer.backup.tree_copy import sync_directory
from mosaic_gateway_installer.program_copy.programs import programs_of
from mosaic_gateway_installer.upgrade.major_version import remove_newer_programs, undo_major

__all__ = ["restore_data", "roll_back"]


class BackupGoneError(RefusedError):
    """There is no way back: the backup that the upgrade made is no more."""

    code = "BACKUP_GONE"


#: The data comes last: what is easily read and compared shows how far it went.
PARTS = ("secrets", "config.toml", "receipt.json", "data")
ASIDE = ".upgraded.tmp"


def restore_data(home: Home, mark: UpgradeMark) -> None:
    """Put the parts of *mark*'s backup where they came from; what was there instead goes.

    Nobody may use the database. Can be killed and called again. Raises BusyError, OSError.
    """
    if mark.backup is None:
        with database_at_rest(home):
            undo_major(home)
        return
    backup = backups_of(home) / mark.backup
    if _is_dump(backup):  # of a server, whose data others may use: only a person can say that it shall go back
        return
    if mark.phase is Phase.CHANGING and not (backup / PARTS[-1]).is_dir():
        raise BackupGoneError(
            f"{backup} is gone, which held what was before the upgrade to {mark.target_version}",
            hint="The data is untouched since. Go on with the new version: mosaic-gateway upgrade",
        )
    for part in PARTS:
        if (backup / part).is_symlink():
            raise RecordError(backup / part, "", "it is a symbolic link")
    write_mark(home, replace(mark, phase=Phase.RESTORING))
    with database_at_rest(home):
        aside = home.path / ASIDE
        if aside.exists() and not any((backup / part).exists() for part in PARTS):
            remove_path(aside)
        make_directory(aside)
        for part in PARTS:
            _restore_data(backup / part, home.path / part, aside / part)
        sync_directory(home.path)
        remove_path(aside)
        remove_path(backup)
        with suppress(OSError):
            backup.parent.rmdir()


def roll_back(home: Home, mark: UpgradeMark) -> None:
    """Undo the upgrade that *mark* tells of, as far as it went: then the old program serves the old data, if it ran.

    The caller holds the home's lock. Raises what a start raises, BusyError, OSError.
    """
    gateway_process.stop(home)
    if mark.phase in {Phase.CHANGING, Phase.RESTORING}:
        restore_data(home, mark)
    elif mark.backup is not None and not _is_dump(backups_of(home) / mark.backup):
        remove_path(backups_of(home) / mark.backup)
    remove_leftovers(home)
    remove_newer_programs(home)
    if mark.source_program is not None and PROGRAM_NAME.fullmatch(mark.source_program):
        home = _where(home, mark.source_program)
        programs_of(home).switch(mark.source_program)
    remove_mark(home)
    remove_file(home.journal)
    if mark.ran:
        with full_disk_named(home.path, "Starting the gateway of before"):
            gateway_process.start(home)


def _where(home: Home, program: str) -> Home:
    """Return *home* with its own programs, where *program* lies with them: an earlier version had no others."""
    own = replace(home, programs=None)
    return own if (own.runtime / program).is_dir() and not (home.runtime / program).is_dir() else home


def _is_dump(backup: Path) -> bool:
    with suppress(ManifestError):
        return read_manifest(backup).kind is BackupKind.DUMP
    return False


def _restore_data(retained: Path, place: Path, aside: Path) -> None:
    if not retained.exists():
        return
    if place.is_dir():  # a file is replaced at once: without a receipt nobody would know the home
        remove_path(aside)
        place.rename(aside)
    retained.rename(place)
