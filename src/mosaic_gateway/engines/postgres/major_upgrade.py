"""Upgrade of a cluster to a new major version with ``pg_upgrade``.

Theory of operation. The old cluster is only read: its files are copied, or cloned if the file system can share
blocks, never linked or swapped, so that the old cluster can be started again at any time. ``pg_upgrade`` starts both
servers in turn and needs the programs of both versions. It requires that both clusters have the same checksums
setting, WAL segment size and bootstrap role, and copies locales and encodings itself. The caller deletes the new
cluster if its test fails.
"""

from __future__ import annotations

import re
import signal
from collections.abc import Collection
from contextlib import suppress
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from mosaic_gateway.engines.base import EngineError
from mosaic_gateway.engines.postgres.cluster import ENVIRONMENT, initdb, major_of
from mosaic_gateway.engines.postgres.configuration import PORT, ROLE, write_configuration
from mosaic_gateway.engines.postgres.runtime import Runtime
from mosaic_gateway.process.command import CommandFailedError, run
from mosaic_gateway.process.logfile import tail_of

__all__ = ["MajorDecision", "MajorUpgradeError", "OldCluster", "Transfer", "decide_major", "upgrade_cluster"]

LIMIT = 24 * 3600.0  # seconds
CONTROL_LIMIT = 60.0  # seconds
INITIAL = "postgres"  # the database that initdb creates
SPARE_OID = 4_294_900_000  # near the maximum; OIDs are assigned from 16384 on


class MajorUpgradeError(EngineError):
    """The cluster could not be upgraded to the new major version; the old one is unchanged."""

    code = "MAJOR_UPGRADE_FAILED"


class Transfer(StrEnum):
    """The pg_upgrade mode of file transfer; both modes leave the old cluster intact."""

    COPY = "--copy"
    CLONE = "--clone"


class MajorDecision(StrEnum):
    """The action required for a cluster's major version."""

    NOTHING = "nothing"
    UPGRADE = "upgrade"
    #: The programs are older than the data, which is left unchanged.
    REFUSE_OLDER_PROGRAMS = "older programs"
    #: The programs of the data's version, which an upgrade needs, are missing.
    REFUSE_NO_PROGRAMS = "no programs"


def decide_major(cluster: int | None, programs: int, available: Collection[int]) -> MajorDecision:
    """Return the required action, decided by major versions alone. Pure.

    *cluster*: the version of the data, None if there is none; *programs*: of the programs that are to run it;
    *available*: of all programs in the home.
    """
    if cluster is None or cluster == programs:
        return MajorDecision.NOTHING
    if cluster > programs:
        return MajorDecision.REFUSE_OLDER_PROGRAMS
    return MajorDecision.UPGRADE if cluster in available else MajorDecision.REFUSE_NO_PROGRAMS


@dataclass(frozen=True, slots=True, kw_only=True)
class OldCluster:
    """A cluster that was shut down cleanly, its programs, and the names of its databases."""

    path: Path
    runtime: Runtime
    databases: Collection[str]


def upgrade_cluster(old: OldCluster, new: Path, after: Runtime, *, sockets: Path, transfer: Transfer) -> None:
    """Create the cluster *new*, which must not exist, from *old*, for the programs *after*.

    *sockets* is a private directory whose path contains no apostrophe. If *old* has no database ``postgres``, *new*
    has an empty one, which the caller drops. Raises `MajorUpgradeError`; *new* may then exist in part.
    """
    before = old.runtime
    traits = _traits(old.path, before)
    try:
        initdb(new, after, checksums=traits.checksums, segment_size=traits.segment_size)
        write_configuration(old.path, before.major)
        write_configuration(new, after.major)
        if INITIAL not in old.databases:
            _renumber_initial(new, after)
        run(
            [
                after.bindir / "pg_upgrade", "-b", before.bindir, "-B", after.bindir, "-d", old.path, "-D", new,
                "-U", ROLE, "-s", sockets, "-p", str(PORT), "-P", str(PORT), transfer.value,
            ],
            timeout=LIMIT, env=ENVIRONMENT, cwd=new, parent_death_signal=signal.SIGTERM,
        )  # fmt: skip
    except CommandFailedError as error:
        text = f"{error.message}\n{_logs(new)}".strip()
        raise MajorUpgradeError(
            f"{old.path} could not be upgraded from PostgreSQL {before.version} to {after.version}: {text}",
            hint="The old cluster is unchanged. Repair what pg_upgrade reports in it, then try again.",
            details=error.details,
        ) from error


def _renumber_initial(new: Path, runtime: Runtime) -> None:
    """Recreate the database ``postgres`` of *new* with another OID.

    In the old cluster that database was renamed; pg_upgrade restores it with its OID, which must be free. pg_upgrade
    itself connects to ``postgres``, so the database must exist. The caller drops it at the end.
    """
    statements = f"DROP DATABASE {INITIAL}\nCREATE DATABASE {INITIAL} OID = {SPARE_OID}\n"
    run(
        [runtime.bindir / "postgres", "--single", "-D", new, "template1"], timeout=CONTROL_LIMIT,
        env=ENVIRONMENT, stdin=statements.encode(), parent_death_signal=signal.SIGKILL,
    )  # fmt: skip


@dataclass(frozen=True, slots=True)
class _ClusterTraits:
    """The properties that both clusters must share; the WAL segment size is in MB."""

    checksums: bool
    segment_size: int


def _traits(cluster: Path, runtime: Runtime) -> _ClusterTraits:
    major_of(cluster)
    try:
        text = run([runtime.bindir / "pg_controldata", "-D", cluster], timeout=CONTROL_LIMIT, env=ENVIRONMENT)
    except CommandFailedError as error:
        raise MajorUpgradeError(f"pg_controldata failed for {cluster}: {error.message}") from error
    return _ClusterTraits(
        checksums=_number(r"Data page checksum version", text) > 0,
        segment_size=_number(r"Bytes per WAL segment", text) // 1024**2,
    )


def _number(name: str, text: str) -> int:
    match = re.search(rf"^{name}:\s+(\d+)$", text, re.MULTILINE)
    if match is None:
        raise MajorUpgradeError(f"pg_controldata does not report: {name}")
    return int(match[1])


def _logs(new: Path) -> str:
    """Return the last lines of the files that pg_upgrade wrote."""
    lines: list[str] = []
    with suppress(OSError):
        for path in sorted((new / "pg_upgrade_output.d").rglob("*.txt")):  # lists of incompatible objects
            lines += [f"{path.name}:", *tail_of(path, 10)]
        for path in sorted((new / "pg_upgrade_output.d").rglob("*.log")):
            lines += tail_of(path, 3)
    return "\n".join(lines[-30:])
