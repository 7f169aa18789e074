"""Which major version of PostgreSQL the data is of, which runs it, and what is to be done about a difference."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from pathlib import Path

from mosaic_gateway.config import Config, EngineName, Home
from mosaic_gateway.engines.postgres.cluster import cluster_of, major_of
from mosaic_gateway.engines.postgres.major import MajorDecision, decide_major
from mosaic_gateway.engines.postgres.runtime import find_runtime, runtimes_of, wheel_version
from mosaic_gateway.files import write_file
from mosaic_gateway.process.account import Account, assume
from mosaic_gateway_installer.backups.manifest import TableRows
from mosaic_gateway_installer.backups.rows import Contents

__all__ = [
    "MajorRecord",
    "decision_for",
    "old_clusters",
    "programs_major",
    "read_record",
    "record_file",
    "write_record",
]

NAME = re.compile(r"postgres-(\d+)")


@dataclass(frozen=True, slots=True, kw_only=True)
class MajorRecord:
    """Which cluster became which, by system identifiers; ``tables`` are the new one's rows before anybody used it."""

    before: int
    after: int
    tables: Contents | None = None


def record_file(home: Home) -> Path:
    """Return where the record of the last upgrade to a new major version lies, beside the clusters."""
    return home.data / ".major-upgrade.json"


def read_record(home: Home) -> MajorRecord | None:
    """Return the record of the last upgrade to a new major version, None where there is none that can be read."""
    try:
        value = json.loads(record_file(home).read_bytes())
        tables = value["tables"]
        rows = None if tables is None else tuple(TableRows(str(t), int(n), str(c)) for t, n, c in tables)
        return MajorRecord(before=int(value["before"]), after=int(value["after"]), tables=rows)
    except (OSError, ValueError, KeyError, TypeError):
        return None


def write_record(home: Home, record: MajorRecord, account: Account | None) -> None:
    """Write *record* as *account*. Raises OSError."""
    tables = None if record.tables is None else [[one.table, one.count, one.checksum] for one in record.tables]
    value = {"before": record.before, "after": record.after, "tables": tables}
    with assume(account):
        write_file(record_file(home), json.dumps(value) + "\n")


def decision_for(config: Config, account: Account | None) -> MajorDecision:
    """Return what is to be done about the major version of the cluster in *config*'s home. Reads only.

    Raises `ForeignClusterError` where what lies there is no cluster, `RuntimeMissingError`.
    """
    cluster = cluster_of(config.home) if config.engine is EngineName.POSTGRES else None
    if cluster is None:
        return MajorDecision.NOTHING
    major, programs = major_of(cluster), programs_major(config, account)
    available = {runtime.major for runtime in runtimes_of(config.home)} if major < programs else ()
    return decide_major(major, programs, available)


def programs_major(config: Config, account: Account | None) -> int:
    """Return the major version of the programs that shall run the cluster. Raises `RuntimeMissingError`."""
    if config.postgres_bin is not None:
        return find_runtime(config.home, config.postgres_bin, account=account).major
    return int(wheel_version().partition(".")[0])


def old_clusters(home: Home) -> tuple[Path, ...]:
    """Return the clusters beside the one that runs, by version: those that an upgrade left."""
    newest = cluster_of(home)
    if newest is None:
        return ()
    found = [path for path in home.data.iterdir() if NAME.fullmatch(path.name) and path != newest]
    return tuple(sorted(found, key=lambda path: int(path.name.removeprefix("postgres-"))))
