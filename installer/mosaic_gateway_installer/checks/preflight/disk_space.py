"""Room for what is about to be written, in bytes and inodes: computed from what would be copied, or measured."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from mosaic_gateway import __version__
from mosaic_gateway.engines.base import DiskFullError
from mosaic_gateway.engines.pglite.pinned_versions import shipped
from mosaic_gateway.engines.pglite.runtime import has_packages
from mosaic_gateway.engines.postgres.runtime import copy_of, locate_wheel, wheel_version
from mosaic_gateway.engines.postgres.runtime_copy import size_of_copy
from mosaic_gateway.installation.engine_name import EngineName
from mosaic_gateway_installer.checks.finding import Check
from mosaic_gateway_installer.checks.preflight.target import Subject
from mosaic_gateway_installer.program_copy.store import snapshots

__all__ = ["CHECKS", "SpaceNeed", "needs", "program_needs"]

MEGABYTE = 1024**2


class InodesExhaustedError(DiskFullError):
    """The file system has room, but cannot hold as many more files."""

    code = "INODES_EXHAUSTED"


@dataclass(frozen=True, slots=True)
class SpaceNeed:
    """What a part of an installation takes: bytes, and files with directories."""

    what: str
    size: int
    files: int


#: Measured: this package and what it needs, with byte code, modules in one archive, are 28 MB in 275 files and
#: directories; some room to grow. Asking each file would take longer than copying some.
PROGRAM = SpaceNeed("gateway's program", 30 * MEGABYTE, 320)
#: Measured with PostgreSQL 18: an empty cluster, and the log of changes that the first work adds.
CLUSTER = SpaceNeed("database cluster", 55 * MEGABYTE, 1_150)
#: Measured: npm's packages, as much again twice while npm works, and Node.js where it comes from a wheel.
PGLITE = SpaceNeed("PGlite's programs", 180 * MEGABYTE, 4_000)
PGLITE_DATA = SpaceNeed("database", 40 * MEGABYTE, 1_150)
RESERVE = SpaceNeed("reserve for recovery and log of changes", 128 * MEGABYTE, 16)
#: Settings, secret, receipt, logs, locks.
SMALL = SpaceNeed("settings and logs", 1 * MEGABYTE, 32)


def needs(subject: Subject) -> tuple[SpaceNeed, ...]:
    """Return what is still to be written into the home, programs left out. Raises OSError."""
    found = [SMALL]
    if subject.config.engine is EngineName.POSTGRES and not subject.has_database:
        found += [CLUSTER, RESERVE]
    if subject.config.engine is EngineName.PGLITE and not subject.has_database:
        found += [PGLITE_DATA, RESERVE]
    return tuple(found)


def program_needs(subject: Subject) -> tuple[SpaceNeed, ...]:
    """Return what of programs is still to be put in place. Raises `RuntimeMissingError`, OSError."""
    found = []
    if not any(path.name == f"gateway-{__version__}" for path in snapshots(subject.config.home)):
        found.append(PROGRAM)
    if subject.uses_wheel and not _has_programs(subject):
        found.append(SpaceNeed("PostgreSQL's programs", *size_of_copy(locate_wheel())))
    if subject.config.engine is EngineName.PGLITE and not _has_pglite(subject):
        found.append(PGLITE)
    return tuple(found)


def _shares(subject: Subject) -> list[tuple[Path, tuple[SpaceNeed, ...]]]:
    """Return what is to be written where: one entry for each file system."""
    home = subject.config.home
    data, programs = _place(home.path), _place(home.runtime)
    if data.stat().st_dev == programs.stat().st_dev:
        return [(data, (*needs(subject), *program_needs(subject)))]
    return [(data, needs(subject)), (programs, program_needs(subject))]


def _has_programs(subject: Subject) -> bool:
    return copy_of(subject.config.home, wheel_version()).is_dir()


def _has_pglite(subject: Subject) -> bool:
    """Return whether nothing of PGlite is to be fetched, or to be copied."""
    return has_packages(subject.config.home, subject.config.pglite_dir, shipped=shipped())


def _place(home: Path) -> Path:
    return next(path for path in (home, *home.parents) if path.exists())


def space(subject: Subject) -> str:
    """Compare the free bytes with the need. Raises `DiskFullError`."""
    subject.need_home()
    return "; ".join(_space(place, wanted) for place, wanted in _shares(subject))


def _space(place: Path, wanted: Sequence[SpaceNeed]) -> str:
    status = os.statvfs(place)
    free = status.f_bavail * status.f_frsize
    needed = sum(need.size for need in wanted)
    details = {"free_bytes": free, "needed_bytes": needed, "parts": {need.what: need.size for need in wanted}}
    if free < needed:
        parts = ", ".join(f"{need.what} {_megabytes(need.size)}" for need in wanted)
        raise DiskFullError(
            f"{place} has {free // MEGABYTE} MB free; {_megabytes(needed)} are needed ({parts})",
            hint="Make room, or choose another --home.",
            details=details,
        )
    return f"{free // MEGABYTE} MB free in {place}, {_megabytes(needed)} needed"


def inodes(subject: Subject) -> str:
    """Compare the files that can still be made with the need. Raises `InodesExhaustedError`."""
    subject.need_home()
    return "; ".join(_inodes(place, wanted) for place, wanted in _shares(subject))


def _inodes(place: Path, wanted: Sequence[SpaceNeed]) -> str:
    status = os.statvfs(place)
    needed = sum(need.files for need in wanted)
    if status.f_files == 0:  # btrfs and the like make them as they are needed
        return f"{place} makes as many files as there is room for"
    if status.f_favail < needed:
        raise InodesExhaustedError(
            f"{place} can hold {status.f_favail} more files; {needed} are needed",
            hint="Remove files there, or choose another --home (df -i shows where there is room).",
            details={"free_files": status.f_favail, "needed_files": needed},
        )
    return f"{status.f_favail} files can be made in {place}, {needed} needed"


def _megabytes(size: int) -> str:
    return f"{-(-size // MEGABYTE)} MB"


CHECKS: tuple[Check[Subject], ...] = (Check(id="space", run=space), Check(id="inodes", run=inodes))
