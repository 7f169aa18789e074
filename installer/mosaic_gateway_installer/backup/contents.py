"""What a backup contains: the data of the engine, the secrets and settings; and what is left out of it."""

from __future__ import annotations

from pathlib import Path

from mosaic_gateway import fs
from mosaic_gateway.engines import ClusterMissingError, postgres
from mosaic_gateway.hint import command
from mosaic_gateway.installation import EngineName, Home

__all__ = [
    "data_of",
    "is_excluded",
    "is_excluded_while_running",
    "is_temporary",
    "require_data",
    "settings_of",
]


def data_of(home: Home, engine: EngineName) -> Path | None:
    """Return the directory in *home* with the data of *engine*, None if there is none (yet)."""
    if engine is EngineName.POSTGRES:
        return postgres.cluster_of(home)
    path = home.data / str(engine)
    return path if path.is_dir() else None


def require_data(home: Home, engine: EngineName) -> Path:
    """Return what `data_of` returns. Raises ClusterMissingError if there is none."""
    data = data_of(home, engine)
    if data is None:
        raise ClusterMissingError(
            f"{home.path} has no data to back up", hint="Run " + command("install", home=home.path) + "."
        )
    return data


def settings_of(home: Home) -> tuple[Path, ...]:
    """Return the existing files and directories that a backup includes beside the data."""
    return tuple(path for path in (home.secrets, home.config_file, home.receipt) if path.exists())


def is_excluded(path: str) -> bool:
    """Return whether a cold copy of data excludes *path*: the files that describe a running postmaster."""
    return path in {"postmaster.pid", "postmaster.opts"}


def is_excluded_while_running(path: str) -> bool:
    """Return whether a copy created ahead excludes *path*: also shared memory segments, which are not data."""
    return is_excluded(path) or path.startswith("pg_dynshmem/")


def is_temporary(path: str) -> bool:
    """Return whether *path* is a temporary file that a killed `files.write_file` left."""
    return fs.TEMPORARY.fullmatch(path) is not None
