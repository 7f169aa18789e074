"""The data directory: recognised by its PG_VERSION, made complete or not at all."""

from __future__ import annotations

from pathlib import Path

from mosaic_gateway.engines.base import ClusterMissingError, ForeignClusterError
from mosaic_gateway.engines.postgres.cluster import LONGEST_VERSION
from mosaic_gateway.fs.files import read_regular
from mosaic_gateway.installation.layout import Home

__all__ = ["MAJOR", "check_major", "data_directory", "data_of", "has_data"]

MAJOR = 18
#: Major version of PostgreSQL → the releases of PGlite that made such directories.
OLDER = {16: "0.2", 17: "0.3 or 0.4"}


def data_directory(home: Home) -> Path:
    """Return where PGlite's data of *home* belongs."""
    return home.data / "pglite"


def has_data(home: Home) -> bool:
    """Return whether there is something in its place."""
    return data_directory(home).exists()


def data_of(home: Home) -> Path:
    """Return the data directory of *home*. Raises `ClusterMissingError`, and what `check_major` raises."""
    directory = data_directory(home)
    if not directory.exists():
        raise ClusterMissingError(f"{home.path} has no database", hint="Run mosaic-gateway install with this --home.")
    check_major(directory)
    return directory


def check_major(directory: Path) -> None:
    """Raise `ForeignClusterError` where *directory* was not made by a PGlite of our major version.

    PGlite itself says of such a directory only that it 'failed to initialize properly'.
    """
    try:
        major = int(read_regular(directory / "PG_VERSION", LONGEST_VERSION))
        (directory / "global" / "pg_control").stat()
    except (OSError, ValueError) as error:
        raise ForeignClusterError(
            f"{directory} is not a data directory that PGlite made", hint="Move it away, or choose another --home."
        ) from error
    if major == MAJOR:
        return
    created_by = f"PGlite {OLDER[major]}" if major in OLDER else "another version of PGlite"
    raise ForeignClusterError(
        f"{directory} was made by {created_by} (PostgreSQL {major}); this version opens those of PostgreSQL {MAJOR}",
        hint="Nothing was changed. Dump it with the version that made it (npm's pglite-tools pgDump, or pg_dump over"
        " its socket server) and restore the dump into a new home; docs/pglite.md has the steps.",
        details={"major": major},
    )
