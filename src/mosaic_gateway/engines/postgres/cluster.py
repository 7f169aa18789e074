"""The database cluster of a home: creation and identification.

A cluster is created in a temporary sibling and renamed when complete, because a killed ``initdb`` leaves an unusable
directory that already has PG_VERSION and global/pg_control.
"""

from __future__ import annotations

import re
import signal
import struct
from pathlib import Path

from mosaic_gateway.engines.base import EngineError, ForeignClusterError
from mosaic_gateway.engines.postgres.configuration import ROLE, check_account, write_configuration
from mosaic_gateway.engines.postgres.postmaster import kill_processes
from mosaic_gateway.engines.postgres.runtime import Runtime
from mosaic_gateway.fs.files import make_directory, open_regular, read_regular
from mosaic_gateway.fs.staging import remove_tree, staged, temporaries
from mosaic_gateway.hint import command
from mosaic_gateway.installation.layout import Home
from mosaic_gateway.process.command import CommandFailedError, run
from mosaic_gateway.process.disk_full import OTHER_HOME, disk_full_as

__all__ = ["cluster_of", "create_cluster", "initdb", "major_of", "system_identifier"]

INITDB_LIMIT = 300.0  # seconds; fsync takes minutes on a slow disk
LONGEST_VERSION = 16  # bytes of PG_VERSION
NAME = re.compile(r"postgres-(\d{1,4})", re.ASCII)
BUILTIN_LOCALES = 17  # first major version with --locale-provider=builtin
CHECKSUMS_BY_DEFAULT = 18  # first major version whose initdb needs --no-data-checksums
ENVIRONMENT = {"LC_ALL": "C.UTF-8", "TZ": "UTC"}


def cluster_of(home: Home) -> Path | None:
    """Return the home's cluster, that of the latest major version, or None. Raises OSError."""
    try:
        names = [path.name for path in home.data.iterdir()]
    except FileNotFoundError:
        return None
    majors = [int(match[1]) for name in names if (match := NAME.fullmatch(name))]
    return home.data / f"postgres-{max(majors)}" if majors else None


def major_of(cluster: Path) -> int:
    """Return the major version of *cluster*. Raises `ForeignClusterError` if it is not a cluster."""
    try:
        major = int(read_regular(cluster / "PG_VERSION", LONGEST_VERSION))
        (cluster / "global" / "pg_control").stat()
    except (OSError, ValueError) as error:
        raise ForeignClusterError(
            f"{cluster} is not a PostgreSQL cluster created by mosaic-gateway",
            hint="Move it away, or choose another --home.",
        ) from error
    return major


def system_identifier(cluster: Path) -> int:
    """Return the system identifier of *cluster*, the first field of pg_control. Raises `ForeignClusterError`.

    Source: ``ControlFileData`` in src/include/catalog/pg_control.h (uint64, the machine's byte order).
    """
    try:
        with open_regular(cluster / "global" / "pg_control") as stream:
            number: int = struct.unpack("=Q", stream.read(8))[0]
    except (OSError, struct.error) as error:
        raise ForeignClusterError(
            f"{cluster} is damaged: its global/pg_control cannot be read ({error})",
            hint="Nothing was changed. Restore a backup: " + command("backup restore", "NAME"),
        ) from error
    return number


def create_cluster(home: Home, runtime: Runtime) -> Path:
    """Create the home's cluster if it has none, and return it.

    Raises `ForeignClusterError` if a cluster of another major version or something else exists at its path,
    `UnfitAccountError`, `DiskFullError`, EngineError, OSError.
    """
    check_account()
    existing = cluster_of(home)
    if existing is not None:
        check_major(existing, runtime)
        return existing
    target = home.data / f"postgres-{runtime.major}"
    try:
        with disk_full_as("a database cluster (at least 120 MB)", home.data, hint=OTHER_HOME):
            make_directory(home.data)
            for path in temporaries(home.data, "postgres-"):
                kill_processes(path)  # a child of a killed initdb may still write there
                remove_tree(path)
            with staged(target) as temporary:
                initdb(temporary, runtime)
                write_configuration(temporary, runtime.major)
    except CommandFailedError as error:
        raise EngineError(f"initdb failed: {error.message}", details=error.details) from error
    return target


def check_major(cluster: Path, runtime: Runtime) -> None:
    """Raise `ForeignClusterError` if *runtime* cannot run *cluster*."""
    major = major_of(cluster)
    if major != runtime.major:
        raise ForeignClusterError(
            f"{cluster} was created by PostgreSQL {major}; the programs in {runtime.bindir} are version"
            f" {runtime.version}",
            hint=f"Give --postgres-bin with a PostgreSQL {major}, or choose another --home.",
        )


def initdb(target: Path, runtime: Runtime, *, checksums: bool = True, segment_size: int = 16) -> None:
    """Create the cluster *target*; *segment_size* is the size of WAL segments in MB. Raises CommandFailedError."""
    provider = "builtin" if runtime.major >= BUILTIN_LOCALES else "libc"
    sums = ["--data-checksums"] if checksums else ["--no-data-checksums"] * (runtime.major >= CHECKSUMS_BY_DEFAULT)
    run(
        [
            runtime.bindir / "initdb", "-D", target, "-U", ROLE, "-E", "UTF8", f"--locale-provider={provider}",
            "--locale=C.UTF-8", "--auth=peer", "--no-instructions", *sums, f"--wal-segsize={segment_size}",
            *(["-c", "dynamic_shared_memory_type=mmap"] if runtime.major >= 16 else []),  # noqa: PLR2004 - a version
        ],
        timeout=INITDB_LIMIT, env=ENVIRONMENT, parent_death_signal=signal.SIGKILL,
    )  # fmt: skip
