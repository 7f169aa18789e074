"""What the serving process reports of its home: the last backup, the last run of ``doctor``, free disk space.

The files are read as they are: the installer, which writes them, is not imported.
"""

from __future__ import annotations

import shutil
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from mosaic_gateway.fs.files import LARGE
from mosaic_gateway.fs.record_fields import BACKUP_NAME, Field, RecordError, any_text, optional, read_record, timestamp
from mosaic_gateway.installation.doctor_record import DoctorRecord, read_doctor_record
from mosaic_gateway.installation.layout import Home

__all__ = ["HomeStatus", "LastBackup", "read_home_status"]

MANIFEST = "manifest.json"
MANIFEST_FIELDS = {
    "created_at": Field(timestamp),
    "verified_at": Field(optional(timestamp), None),
    "kind": Field(any_text, ""),
    "tag": Field(optional(any_text), None),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class LastBackup:
    """The newest complete backup in the home that someone asked for.

    Times are UTC (ISO 8601); ``verified_at`` is None if never verified.
    """

    name: str
    created_at: str
    verified_at: str | None
    kind: str


@dataclass(frozen=True, slots=True, kw_only=True)
class HomeStatus:
    """``disk_free`` and ``disk_total`` are bytes of the home's file system, None if unknown."""

    backup: LastBackup | None
    doctor: DoctorRecord | None
    disk_free: int | None
    disk_total: int | None


def read_home_status(home: Home) -> HomeStatus:
    """Return the status of *home*; what cannot be read counts as not there. Blocks on files."""
    free = total = None
    with suppress(OSError):
        usage = shutil.disk_usage(home.path)
        free, total = usage.free, usage.total
    return HomeStatus(
        backup=_last_backup(home.path / "backups"), doctor=read_doctor_record(home), disk_free=free, disk_total=total
    )


def _last_backup(directory: Path) -> LastBackup | None:
    """Return the newest backup: names begin with the time, and a directory without a manifest is unfinished.

    A backup with a tag is a copy that a verb made for itself, such as the one before a restore: it does not count.
    """
    try:
        names = sorted((path.name for path in directory.iterdir() if BACKUP_NAME.fullmatch(path.name)), reverse=True)
    except OSError:
        return None
    for name in names:
        with suppress(OSError, RecordError):
            manifest = read_record(directory / name / MANIFEST, MANIFEST_FIELDS, limit=LARGE)
            if manifest.pop("tag") is None:
                return LastBackup(name=name, **manifest)
    return None
