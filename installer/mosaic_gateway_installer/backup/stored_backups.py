"""The directory of backups: names, listing and lookup."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from mosaic_gateway import fs
from mosaic_gateway.errors import MosaicError, RefusedError
from mosaic_gateway.fs.record_fields import BACKUP_NAME
from mosaic_gateway.hint import command
from mosaic_gateway.installation import Home
from mosaic_gateway_installer.backup.manifest import BEFORE_RESTORE, MANIFEST, Manifest, ManifestError, read_manifest

__all__ = [
    "Backup",
    "BackupDamagedError",
    "BackupMissingError",
    "backup_name",
    "backups_of",
    "damaged",
    "find_backup",
    "list_backups",
    "remove_unfinished_backups",
]

NAME = BACKUP_NAME
MAX_NAMED = 5  # differences that an error message names


class BackupDamagedError(MosaicError):
    """The backup differs from its manifest, or its trial restore failed."""

    code = "BACKUP_DAMAGED"


class BackupMissingError(RefusedError):
    """There is no backup of that name."""

    code = "BACKUP_MISSING"


@dataclass(frozen=True, slots=True)
class Backup:
    """A backup and its manifest."""

    path: Path
    manifest: Manifest

    @property
    def name(self) -> str:
        """The name of the backup's directory, as used on the command line."""
        return self.path.name


def backups_of(home: Home) -> Path:
    """Return the directory of the backups of *home*."""
    return home.path / "backups"


def backup_name(at: datetime, version: str, directory: Path) -> str:
    """Return an unused name in *directory* for a backup created *at* (UTC) by *version*."""
    stamp = f"{at.astimezone(UTC):%Y%m%dT%H%M%SZ}-{version}"
    names = (stamp, *(f"{stamp}-{number}" for number in range(2, 1000)))
    return next(name for name in names if not (directory / name).exists())


def list_backups(directory: Path) -> tuple[tuple[Backup, ...], tuple[ManifestError, ...]]:
    """Return the backups in *directory*, newest first, and the errors of those that cannot be read."""
    backups, errors = [], []
    for path in _named(directory):
        try:
            backups.append(Backup(path, read_manifest(path)))
        except ManifestError as error:
            errors.append(error)
    backups.sort(key=lambda backup: (backup.manifest.created_at, backup.name), reverse=True)
    return tuple(backups), tuple(errors)


def find_backup(home: Home, name: str) -> Backup:
    """Return the backup *name*: the name of one of *home*'s backups, a path, or ``latest``.

    ``latest`` does not mean the backup of data that a restore has replaced.
    Raises `BackupMissingError`, `ManifestError`.
    """
    directory = backups_of(home)
    if name == "latest":
        backups = [one for one in list_backups(directory)[0] if one.manifest.tag != BEFORE_RESTORE]
        if not backups:
            raise BackupMissingError(
                f"there is no backup in {directory}", hint="Create one: " + command("backup create")
            )
        return backups[0]
    path = directory / name if NAME.fullmatch(name) else Path(name).expanduser().absolute()
    if not (path / MANIFEST).exists():
        found = f"{path} is not a backup" if path.exists() else f"there is no backup {name} in {directory}"
        raise BackupMissingError(
            found,
            hint="Use a name from " + command("backup list") + ", or the directory of a backup.",
        )
    return Backup(path, read_manifest(path))


def _named(directory: Path) -> Iterator[Path]:
    if directory.is_dir():
        paths = (path for path in directory.iterdir() if NAME.fullmatch(path.name))
        yield from sorted(path for path in paths if path.is_dir() and not path.is_symlink())


def remove_unfinished_backups(home: Home) -> None:
    """Remove unfinished backups in *home*, and the directory of backups if it is empty then."""
    fs.remove_temporaries(backups_of(home))
    with suppress(OSError):
        backups_of(home).rmdir()


def damaged(backup: Backup, wrong: list[str]) -> BackupDamagedError:
    """Return the error that *backup* is damaged, with what is *wrong*."""
    more = f", and {len(wrong) - MAX_NAMED} more" if len(wrong) > MAX_NAMED else ""
    return BackupDamagedError(
        f"{backup.path} is damaged: {'; '.join(wrong[:MAX_NAMED])}{more}",
        hint="Do not use it. Create another backup: " + command("backup create"),
        details={"differences": wrong[:100]},
    )
