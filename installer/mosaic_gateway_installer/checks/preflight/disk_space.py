"""Checks of free disk space and inodes. What will be written is computed from the files to copy, or was measured."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from mosaic_gateway import __version__
from mosaic_gateway.engines import pglite, postgres
from mosaic_gateway.installation import EngineName
from mosaic_gateway.process import DiskFullError
from mosaic_gateway_installer.checks.finding import Check, require_home
from mosaic_gateway_installer.program_copy.store import program_copies
from mosaic_gateway_installer.step import Target

__all__ = ["CHECKS", "SpaceNeed", "needs", "program_needs"]

MEGABYTE = 1024**2


class InodesExhaustedError(DiskFullError):
    """The file system has free space, but not enough free inodes."""

    code = "INODES_EXHAUSTED"


@dataclass(frozen=True, slots=True)
class SpaceNeed:
    """The space that a part of an installation needs: ``size`` in bytes, ``files`` with directories."""

    what: str
    size: int
    files: int


#: Measured: this package and its dependencies, with byte code, modules in one archive, are 28 MB in 275 files and
#: directories; rounded up. A constant, because adding up the sizes takes longer than copying some of the files.
PROGRAM = SpaceNeed("gateway's program", 30 * MEGABYTE, 320)
#: Measured with PostgreSQL 18: an empty cluster, and the WAL of the first migrations.
CLUSTER = SpaceNeed("database cluster", 55 * MEGABYTE, 1_150)
#: Measured: the npm packages, twice their size for npm's temporary files, and Node.js if it is from a wheel.
PGLITE = SpaceNeed("PGlite's programs", 180 * MEGABYTE, 4_000)
PGLITE_DATA = SpaceNeed("database", 40 * MEGABYTE, 1_150)
RESERVE = SpaceNeed("reserve for crash recovery and WAL", 128 * MEGABYTE, 16)
#: Settings, secret, receipt, logs, locks.
SMALL = SpaceNeed("settings and logs", 1 * MEGABYTE, 32)


def needs(target: Target) -> tuple[SpaceNeed, ...]:
    """Return what will be written into the home, without programs. Raises OSError."""
    parts = [SMALL]
    if target.config.engine is EngineName.POSTGRES and not target.has_database:
        parts += [CLUSTER, RESERVE]
    if target.config.engine is EngineName.PGLITE and not target.has_database:
        parts += [PGLITE_DATA, RESERVE]
    return tuple(parts)


def program_needs(target: Target) -> tuple[SpaceNeed, ...]:
    """Return the programs that will be copied. Raises `RuntimeMissingError`, OSError."""
    parts = []
    if not any(path.name == f"gateway-{__version__}" for path in program_copies(target.home)):
        parts.append(PROGRAM)
    if target.uses_wheel and not _has_programs(target):
        parts.append(SpaceNeed("PostgreSQL's programs", *postgres.size_of_copy(postgres.locate_wheel())))
    if target.config.engine is EngineName.PGLITE and not _has_pglite(target):
        parts.append(PGLITE)
    return tuple(parts)


def _needs_by_file_system(target: Target) -> list[tuple[Path, tuple[SpaceNeed, ...]]]:
    """Return what will be written where: one entry for each file system."""
    home = target.home
    data, programs = _existing_parent(home.path), _existing_parent(home.runtime)
    if data.stat().st_dev == programs.stat().st_dev:
        return [(data, (*needs(target), *program_needs(target)))]
    return [(data, needs(target)), (programs, program_needs(target))]


def _has_programs(target: Target) -> bool:
    return postgres.copy_of(target.home, postgres.wheel_version()).is_dir()


def _has_pglite(target: Target) -> bool:
    """Return whether PGlite's packages need neither a download nor a copy."""
    return pglite.has_packages(target.home, target.config.pglite_dir, shipped=pglite.shipped())


def _existing_parent(path: Path) -> Path:
    return next(candidate for candidate in (path, *path.parents) if candidate.exists())


def space(target: Target) -> str:
    """Compare the free bytes with the bytes that are needed. Raises `DiskFullError`."""
    require_home(target)
    return "; ".join(_space(directory, parts) for directory, parts in _needs_by_file_system(target))


def _space(directory: Path, parts: Sequence[SpaceNeed]) -> str:
    status = os.statvfs(directory)
    free = status.f_bavail * status.f_frsize
    needed = sum(need.size for need in parts)
    details = {"free_bytes": free, "needed_bytes": needed, "parts": {need.what: need.size for need in parts}}
    if free < needed:
        listed = ", ".join(f"{need.what} {_megabytes(need.size)}" for need in parts)
        raise DiskFullError(
            f"{directory} has {free // MEGABYTE} MB free; {_megabytes(needed)} are needed ({listed})",
            hint="Free some space, or choose another --home.",
            details=details,
        )
    return f"{free // MEGABYTE} MB free in {directory}, {_megabytes(needed)} needed"


def inodes(target: Target) -> str:
    """Compare the free inodes with the number that is needed. Raises `InodesExhaustedError`."""
    require_home(target)
    return "; ".join(_inodes(directory, parts) for directory, parts in _needs_by_file_system(target))


def _inodes(directory: Path, parts: Sequence[SpaceNeed]) -> str:
    status = os.statvfs(directory)
    needed = sum(need.files for need in parts)
    if status.f_files == 0:  # btrfs and others allocate inodes on demand
        return f"{directory} has no inode limit"
    if status.f_favail < needed:
        raise InodesExhaustedError(
            f"{directory} can hold {status.f_favail} more files; {needed} are needed",
            hint="Remove files there, or choose another --home (df -i shows free inodes).",
            details={"free_files": status.f_favail, "needed_files": needed},
        )
    return f"{status.f_favail} inodes free in {directory}, {needed} needed"


def _megabytes(size: int) -> str:
    return f"{-(-size // MEGABYTE)} MB"


CHECKS: tuple[Check, ...] = (Check(id="space", run=space), Check(id="inodes", run=inodes))
