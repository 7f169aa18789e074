"""A cluster of an older major version, upgraded into a new one beside it by ``pg_upgrade``.

Theory of operation. The old cluster is only read: its files are copied, or cloned where the file system can
share blocks, never linked or swapped, so that it can serve again at any time. ``pg_upgrade`` itself starts both
servers in turn, and needs the programs of both versions. It demands that the new cluster was made like the
old one (checksums, size of log segments, bootstrap role); locales and encodings it carries over. Whatever is
made here is the caller's to throw away until it has been tried.
"""

from __future__ import annotations

import re
import signal
from collections.abc import Collection
from contextlib import suppress
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from mosaic_gateway.engines.base import DiskFullError, EngineError
from mosaic_gateway.engines.postgres.cluster import ENVIRONMENT, initdb, major_of
from mosaic_gateway.engines.postgres.configuration import PORT, ROLE, write_configuration
from mosaic_gateway.engines.postgres.runtime import Runtime
from mosaic_gateway.process.command import CommandFailedError, run
from mosaic_gateway.process.logfile import tail_of

__all__ = ["MajorDecision", "MajorUpgradeError", "OldCluster", "Transfer", "decide_major", "upgrade_cluster"]

LIMIT = 24 * 3600.0  # seconds
CONTROL_LIMIT = 60.0  # seconds
INITIAL = "postgres"  # the database that initdb makes
SPARE_NUMBER = 4_294_900_000  # near the largest; numbers are given out from 16384 on


class MajorUpgradeError(EngineError):
    """The cluster could not be taken to the new major version; the old one is as it was."""

    code = "MAJOR_UPGRADE_FAILED"


class Transfer(StrEnum):
    """How files get from the old cluster to the new one; both leave the old one whole."""

    COPY = "--copy"
    CLONE = "--clone"


class MajorDecision(StrEnum):
    """What is to be done about a cluster's major version."""

    NOTHING = "nothing"
    UPGRADE = "upgrade"
    #: The programs are older than the data: never touched.
    REFUSE_OLDER_PROGRAMS = "older programs"
    #: The programs that made the data are gone, and an upgrade needs them.
    REFUSE_NO_PROGRAMS = "no programs"


def decide_major(cluster: int | None, programs: int, available: Collection[int]) -> MajorDecision:
    """Return what is to be done, decided by major versions alone. Pure.

    *cluster*: that of the data, None where there is none; *programs*: of those that shall run it; *available*: of all
    programs in the home.
    """
    if cluster is None or cluster == programs:
        return MajorDecision.NOTHING
    if cluster > programs:
        return MajorDecision.REFUSE_OLDER_PROGRAMS
    return MajorDecision.UPGRADE if cluster in available else MajorDecision.REFUSE_NO_PROGRAMS


@dataclass(frozen=True, slots=True, kw_only=True)
class OldCluster:
    """A cluster at rest that was stopped cleanly, its programs, and the names of its databases."""

    path: Path
    runtime: Runtime
    databases: Collection[str]


def upgrade_cluster(old: OldCluster, new: Path, after: Runtime, *, sockets: Path, transfer: Transfer) -> None:
    """Make the cluster *new*, which must not exist, from *old*, for the programs *after*.

    *sockets* is a private directory whose path holds no apostrophe. Where *old* has no database ``postgres``, *new*
    has an empty one, to be dropped. Raises `MajorUpgradeError`, `DiskFullError`;
    then *new* may be there in part.
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
            timeout=LIMIT, env=ENVIRONMENT, cwd=new, ends_with_us=signal.SIGTERM,
        )  # fmt: skip
    except CommandFailedError as error:
        text = f"{error.message}\n{_logs(new)}".strip()
        if "No space left on device" in text:
            raise DiskFullError(
                f"There is no room for a copy of {old.path} beside it",
                hint="Make room there, then run the command again.",
            ) from error
        raise MajorUpgradeError(
            f"{old.path} could not be upgraded from PostgreSQL {before.version} to {after.version}: {text}",
            hint="The old cluster is as it was. What pg_upgrade names must be mended in it first.",
            details=error.details,
        ) from error


def _renumber_initial(new: Path, runtime: Runtime) -> None:
    """Give the database that initdb made in *new* another number.

    Ours is that database under another name, and pg_upgrade gives it its old number; it also works from
    a database of the initial name, so there must be one. The caller drops it in the end.
    """
    statements = f"DROP DATABASE {INITIAL}\nCREATE DATABASE {INITIAL} OID = {SPARE_NUMBER}\n"
    run(
        [runtime.bindir / "postgres", "--single", "-D", new, "template1"], timeout=CONTROL_LIMIT,
        env=ENVIRONMENT, stdin=statements.encode(), ends_with_us=signal.SIGKILL,
    )  # fmt: skip


@dataclass(frozen=True, slots=True)
class _ClusterTraits:
    """In what a new cluster must be like the old one; the size of log segments is in MB."""

    checksums: bool
    segment_size: int


def _traits(cluster: Path, runtime: Runtime) -> _ClusterTraits:
    major_of(cluster)
    try:
        text = run([runtime.bindir / "pg_controldata", "-D", cluster], timeout=CONTROL_LIMIT, env=ENVIRONMENT)
    except CommandFailedError as error:
        raise MajorUpgradeError(f"{cluster} cannot be examined: {error.message}") from error
    return _ClusterTraits(
        checksums=_number(r"Data page checksum version", text) > 0,
        segment_size=_number(r"Bytes per WAL segment", text) // 1024**2,
    )


def _number(name: str, text: str) -> int:
    match = re.search(rf"^{name}:\s+(\d+)$", text, re.MULTILINE)
    if match is None:
        raise MajorUpgradeError(f"pg_controldata does not say: {name}")
    return int(match[1])


def _logs(new: Path) -> str:
    """Return the last lines of what pg_upgrade wrote beside its output."""
    lines: list[str] = []
    with suppress(OSError):
        for path in sorted((new / "pg_upgrade_output.d").rglob("*.txt")):  # its findings, object by object
            lines += [f"{path.name}:", *tail_of(path, 10)]
        for path in sorted((new / "pg_upgrade_output.d").rglob("*.log")):
            lines += tail_of(path, 3)
    return "\n".join(lines[-30:])
