"""PostgreSQL major versions in a home: old and new clusters, the record of an upgrade, and its undo."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from mosaic_gateway import fs
from mosaic_gateway.config import Config
from mosaic_gateway.engines import postgres
from mosaic_gateway.fs.record_fields import Field, RecordError, integer
from mosaic_gateway.installation import EngineName, Home, read_receipt
from mosaic_gateway_installer.program_copy.home_programs import programs_of
from mosaic_gateway_installer.root.program_directory import OWN_NAMES

__all__ = [
    "MajorRecord",
    "decision_for",
    "old_clusters",
    "programs_major",
    "put_back_reverted",
    "read_record",
    "record_file",
    "remove_newer_programs",
    "remove_old_clusters",
    "remove_record",
    "remove_reverted",
    "undo_major",
    "write_record",
]

NAME = re.compile(r"postgres-(\d{1,4})", re.ASCII)


@dataclass(frozen=True, slots=True)
class MajorRecord:
    """The system identifiers of the clusters before and after an upgrade to a new major version."""

    before: int
    after: int
    extra: Mapping[str, Any] = field(default_factory=dict, compare=False)


FIELDS = {"before": Field(integer), "after": Field(integer)}
FORMAT = fs.RecordFormat(fields=FIELDS)


def record_file(home: Home) -> Path:
    """Return the file that records the last upgrade to a new major version; it is beside the clusters."""
    return home.data / ".major-upgrade.json"


def read_record(home: Home) -> MajorRecord | None:
    """Return the record of the last upgrade to a new major version, None if it is missing or unreadable."""
    try:
        return MajorRecord(**FORMAT.read(record_file(home)))
    except (OSError, RecordError):
        return None


def write_record(home: Home, record: MajorRecord) -> None:
    """Write *record*. Raises OSError."""
    FORMAT.write(record_file(home), asdict(record))


def remove_record(home: Home) -> None:
    """Remove the record: the upgrade is complete, and the receipt names the new cluster. Raises OSError."""
    fs.remove_file(record_file(home))


def decision_for(config: Config) -> postgres.MajorDecision:
    """Return the decision about the major version of the cluster in *config*'s home. Reads only.

    Raises `ForeignClusterError` if the directory is not a cluster, `RuntimeMissingError`.
    """
    cluster = postgres.cluster_of(config.home) if config.engine is EngineName.POSTGRES else None
    if cluster is None:
        return postgres.MajorDecision.NOTHING
    major, programs = postgres.major_of(cluster), programs_major(config)
    available = {runtime.major for runtime in postgres.runtimes_of(config.home)} if major < programs else ()
    return postgres.decide_major(major, programs, available)


def programs_major(config: Config) -> int:
    """Return the major version of the programs that are to run the cluster. Raises `RuntimeMissingError`."""
    if config.postgres_bin is not None:
        return postgres.find_runtime(config.home, config.postgres_bin).major
    return int(postgres.wheel_version().partition(".")[0])


def old_clusters(home: Home) -> tuple[Path, ...]:
    """Return the clusters that upgrades have left beside the newest one, sorted by version."""
    newest = postgres.cluster_of(home)
    if newest is None:
        return ()
    older = [path for path in home.data.iterdir() if NAME.fullmatch(path.name) and path != newest]
    return tuple(sorted(older, key=lambda path: int(path.name.removeprefix("postgres-"))))


def remove_newer_programs(home: Home) -> None:
    """Remove programs of later major versions than the cluster's: an earlier gateway version would start these.

    Raises OSError.
    """
    cluster = postgres.cluster_of(home)
    if cluster is None:
        return
    newer = [runtime for runtime in postgres.runtimes_of(home) if runtime.major > postgres.major_of(cluster)]
    programs_of(home).remove([postgres.copy_of(home, runtime.version).name for runtime in newer])


def undo_major(home: Home) -> bool:
    """Remove the new cluster of an unfinished upgrade, so that the old one is the newest; return whether there was one.

    An upgrade is unfinished while the record exists and the receipt does not have the new cluster's system identifier.
    No process may use the database meanwhile. Raises OSError.
    """
    record, new, receipt = read_record(home), postgres.cluster_of(home), read_receipt(home)
    if record is None:
        return False
    if receipt is not None and receipt.system_identifier == record.after:  # the upgrade is complete
        return False
    created = new is not None and postgres.system_identifier(new) == record.after and bool(old_clusters(home))
    if new is not None and created:
        fs.erase([new])
    fs.remove_file(record_file(home))
    return created


def remove_old_clusters(home: Home) -> tuple[str, ...]:
    """Remove the clusters that an upgrade has retained, and their programs; return the names. Raises OSError."""
    old = old_clusters(home)
    fs.erase(old)
    majors = {int(path.name.removeprefix("postgres-")) for path in old}
    copies = [
        postgres.copy_of(home, runtime.version).name
        for runtime in postgres.runtimes_of(home)
        if runtime.major in majors
    ]
    return (*(path.name for path in old), *programs_of(home).remove(copies))


def put_back_reverted(home: Home) -> None:
    """Put back the cluster and programs that a revert had set aside.

    No process may use the database meanwhile. Raises OSError.
    """
    fs.put_back(fs.lying_aside(home.data, NAME, fs.Reason.REVERTED))
    programs_of(home).put_back()


def remove_reverted(home: Home) -> None:
    """Remove the cluster and programs that a completed revert had set aside. Raises OSError."""
    fs.erase(one.path for one in fs.lying_aside(home.data, NAME, fs.Reason.REVERTED))
    programs_of(home).remove([one.path.name for one in fs.lying_aside(home.runtime, OWN_NAMES, fs.Reason.REVERTED)])
