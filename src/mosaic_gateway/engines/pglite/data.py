"""PGlite's data directory: its path and the check of its major version."""

from __future__ import annotations

from pathlib import Path

from mosaic_gateway.engines.base import ClusterMissingError, ForeignClusterError
from mosaic_gateway.engines.postgres.cluster import LONGEST_VERSION
from mosaic_gateway.fs.files import read_regular
from mosaic_gateway.hint import command
from mosaic_gateway.installation.layout import Home

__all__ = ["MAJOR", "check_major", "data_directory", "data_of", "has_data"]

MAJOR = 18
#: Major version of PostgreSQL → the releases of PGlite with that format.
OLDER = {16: "0.2", 17: "0.3 or 0.4"}


def data_directory(home: Home) -> Path:
    """Return the path of PGlite's data directory in *home*."""
    return home.data / "pglite"


def has_data(home: Home) -> bool:
    """Return whether anything exists at that path."""
    return data_directory(home).exists()


def data_of(home: Home) -> Path:
    """Return the data directory of *home*. Raises `ClusterMissingError`, and what `check_major` raises."""
    directory = data_directory(home)
    if not directory.exists():
        raise ClusterMissingError(
            f"{home.path} has no database", hint="Run " + command("install", home=home.path) + "."
        )
    check_major(directory)
    return directory


def check_major(directory: Path) -> None:
    """Raise `ForeignClusterError` unless *directory* was created by a PGlite of the supported major version.

    PGlite's own error for such a directory is only 'failed to initialize properly'.
    """
    try:
        major = int(read_regular(directory / "PG_VERSION", LONGEST_VERSION))
        (directory / "global" / "pg_control").stat()
    except (OSError, ValueError) as error:
        raise ForeignClusterError(
            f"{directory} is not a data directory of PGlite", hint="Move it away, or choose another --home."
        ) from error
    if major == MAJOR:
        return
    created_by = f"PGlite {OLDER[major]}" if major in OLDER else "another version of PGlite"
    raise ForeignClusterError(
        f"{directory} was created by {created_by} (PostgreSQL {major}); this version needs PostgreSQL {MAJOR}",
        hint="Nothing was changed. Dump it with the version that created it (npm's pglite-tools pgDump, or pg_dump"
        " over its socket server) and restore the dump into a new home;"
        " see docs/howto/use-pglite.md for the steps.",
        details={"major": major},
    )
