"""Online backup: the files of a running PostgreSQL, and its WAL up to one instant.

Theory of operation. This uses PostgreSQL's low-level backup API (chapter "Continuous Archiving" of its manual) instead
of ``pg_basebackup``: blocks can be shared, no replication login is needed, and the end of the backup can be chosen.
A temporary replication slot prevents WAL segments from being recycled. Files are copied between ``pg_backup_start``
and ``pg_backup_stop``; torn pages are repaired by replaying the WAL. Then all tables are locked against writers
for some milliseconds. While no session can change a row, a snapshot is exported, and the WAL is switched to a new
segment. The backup includes the WAL up to that switch and no further. So a server started on the backup recovers to
exactly the rows of the snapshot, in which they are counted and hashed while the gateway serves.

No lock prevents another session from creating or dropping a table. So there must be no commit between the snapshot
and the switch, which are done by one statement; otherwise both are repeated. A commit record may be in the WAL before
the switch although the transaction is not visible yet: in PostgreSQL's xact.c, ``RecordTransactionCommit`` writes and
flushes it before ``ProcArrayEndTransaction``. So no session may be committing at the switch.
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path

import psycopg
from psycopg import sql
from psycopg.rows import TupleRow

from mosaic_gateway import fs
from mosaic_gateway.engines import connect
from mosaic_gateway.errors import BusyError, MosaicError
from mosaic_gateway.hint import command
from mosaic_gateway_installer.backup.row_checksums import (
    Contents,
    lock_tables,
    objects_hash,
    table_rows,
    tables_of,
    writers_blocked,
)
from mosaic_gateway_installer.backup.tree_copy import copy_tree

__all__ = ["BackupFailedError", "OnlineFacts", "WritersBusyError", "copy_running_cluster", "is_excluded"]

Connection = psycopg.Connection[TupleRow]
APPLICATION = "mosaic-gateway backup"
#: Seconds to wait for a running writer, during which new writers queue; then they run first, and the lock is retried.
LOCK_TIMEOUT = 0.8
LOCK_TRIES = 40
PAUSE = 0.5  # seconds between tries
#: The snapshot, its transactions, and the last WAL segment. At the beginning of a segment ``pg_switch_wal`` does
#: nothing, and other sessions would go on to fill the segment that it names; so a record is written first.
CUT = """
    SELECT pg_export_snapshot(), pg_current_snapshot()::text,
           CASE WHEN pg_logical_emit_message(false, 'mosaic-gateway', 'backup') IS NOT NULL
                THEN pg_walfile_name(pg_switch_wal() - 1) END
"""
#: The number of transactions that were in progress or not yet started in the given snapshot, and are committed now.
COMMITTED = """
    SELECT count(*) FROM (
        SELECT pg_snapshot_xip(%s::pg_snapshot) UNION
        SELECT generate_series(pg_snapshot_xmax(%s::pg_snapshot)::text::bigint,
                               pg_snapshot_xmax(pg_current_snapshot())::text::bigint - 1)::text::xid8
    ) AS later (xid) WHERE pg_xact_status(xid) = 'committed'
"""
#: Sessions that have written, and wait neither for a lock nor for their client, may be committing. VACUUM changes no
#: rows.
COMMITTING = """
    SELECT count(*) FROM pg_stat_activity
    WHERE backend_xid IS NOT NULL AND backend_type <> 'autovacuum worker' AND pid <> pg_backend_pid()
      AND wait_event_type IS DISTINCT FROM 'Lock' AND coalesce(state, '') NOT LIKE 'idle in transaction%'
"""
#: Errors after which the lock is retried: another session was faster.
RETRIED_ERRORS = (
    psycopg.errors.LockNotAvailable,
    psycopg.errors.UndefinedTable,
    psycopg.errors.DeadlockDetected,
)
#: Directories whose content is not copied: see "Making a Base Backup Using the Low Level API" in PostgreSQL's manual.
EMPTIED = (
    "pg_wal",
    "pg_replslot",
    "pg_dynshmem",
    "pg_notify",
    "pg_serial",
    "pg_snapshots",
    "pg_stat_tmp",
    "pg_subtrans",
)
RETAINED_DIRECTORIES = {"pg_wal/archive_status", "pg_wal/summaries"}
FILES = {"postmaster.pid", "postmaster.opts", "backup_label", "tablespace_map", "recovery.signal", "standby.signal"}


class BackupFailedError(MosaicError):
    """The backup could not be created; the unfinished backup has been removed."""

    code = "BACKUP_FAILED"


class WritersBusyError(BusyError):
    """A transaction that has written stays open, so that the tables cannot be locked."""

    code = "WRITERS_BUSY"


@dataclass(frozen=True, slots=True, kw_only=True)
class OnlineFacts:
    """The content of the running database at the backup's instant."""

    tables: Contents
    objects: str
    server_version: str


def is_excluded(path: str) -> bool:
    """Return whether an online backup excludes *path*, which is relative to the cluster. Pure."""
    top, _, below = path.partition("/")
    name = path.rpartition("/")[2]
    if below and top in EMPTIED:
        return path not in RETAINED_DIRECTORIES
    return path in FILES or name.startswith("pgsql_tmp") or name == "pg_internal.init"


def copy_running_cluster(
    cluster: Path,
    target: Path,
    conninfo: str,
    *,
    progress: Callable[[int], None] | None = None,
) -> OnlineFacts:
    """Copy *cluster*, which the server at *conninfo* runs, to *target*, and fsync it.

    On failure *target* may be incomplete. Raises `WritersBusyError`, `BackupFailedError`, OSError.
    """
    try:
        with (
            closing(connect(conninfo, application_name=APPLICATION)) as session,
            closing(connect(conninfo, application_name=APPLICATION)) as reader,
        ):
            return _Backup(session, reader, cluster, target, progress).run()
    except psycopg.Error as error:
        raise BackupFailedError(
            f"the running database could not be backed up: {' '.join(str(error).split())}",
            hint="Check the log: " + command("logs") + ". Or stop the gateway, then back up the stopped database.",
        ) from error


@dataclass(frozen=True, slots=True, kw_only=True)
class _Cut:
    """The end of a backup: an exported snapshot, its transactions (``pg_snapshot``), and the last WAL segment."""

    snapshot: str
    transactions: str
    last: str


@dataclass(slots=True)
class _Backup:
    session: Connection  # holds slot, backup mode and locks
    reader: Connection  # counts rows
    cluster: Path
    target: Path
    progress: Callable[[int], None] | None

    def run(self) -> OnlineFacts:
        self._check()
        label = f"mosaic_gateway_{secrets.token_hex(4)}"
        # A temporary slot that reserves WAL immediately; the server drops it when the session ends.
        self.session.execute("SELECT pg_create_physical_replication_slot(%s, true, true)", [label])
        first = self._value("SELECT pg_walfile_name(pg_backup_start(%s, fast => true))", label)
        copy_tree(self.cluster, self.target, skip=is_excluded, vanishing=True, progress=self.progress)
        self._copy_control()
        self._stop()
        with self._instant() as last:
            self._copy_log(first, last)
            # Both are read in the snapshot, which excludes objects that are created meanwhile.
            tables, objects = table_rows(self.reader), objects_hash(self.reader)
        version = self._value("SELECT split_part(current_setting('server_version'), ' ', 1)")
        return OnlineFacts(tables=tables, objects=objects, server_version=version)

    def _check(self) -> None:
        if self._value("SELECT current_setting('full_page_writes')") != "on":
            raise BackupFailedError(
                "full_page_writes is off, so torn pages in a copy of the running database could not be repaired",
                hint="Stop the gateway, then back up the stopped database.",
            )
        count = self._value("SELECT count(*) FROM pg_tablespace WHERE spcname NOT IN ('pg_default', 'pg_global')")
        if count != "0":
            raise BackupFailedError(
                f"the database has {count} tablespace(s) outside of the home",
                hint="Move their tables into the default tablespace, or back the database up with pg_basebackup.",
            )

    def _copy_control(self) -> None:
        """Copy pg_control once two consecutive reads are equal: the server may be writing it."""
        path = self.cluster / "global" / "pg_control"
        before, content = b"", fs.read_regular(path)
        while before != content:
            before, content = content, fs.read_regular(path)
        fs.write_file(self.target / "global" / "pg_control", content)

    def _stop(self) -> None:
        row = self.session.execute("SELECT labelfile FROM pg_backup_stop(wait_for_archive => false)").fetchone()
        fs.write_file(self.target / "backup_label", str(row[0]) if row else "")

    @contextmanager
    def _instant(self) -> Iterator[str]:
        """Choose the instant, and yield the last WAL segment; inside the block the reader's transaction sees it."""
        snapshot = _Snapshot(self.reader)
        try:
            yield self._choose(snapshot)
        finally:
            snapshot.end()

    def _choose(self, snapshot: _Snapshot) -> str:
        for left in reversed(range(LOCK_TRIES)):
            try:
                with writers_blocked(self.session, lock_timeout=LOCK_TIMEOUT) as tables:
                    self._wait_for_commits()
                    cut = self._cut()
                    if self._nothing_between(cut):
                        snapshot.begin(cut.snapshot, tables)
                        if tables_of(self.reader) == tables:
                            return cut.last
                snapshot.end()
            except RETRIED_ERRORS:
                snapshot.end()
            if left:
                time.sleep(PAUSE)
        raise WritersBusyError(
            f"the tables could not be locked for {LOCK_TRIES * (LOCK_TIMEOUT + PAUSE):.0f} s, because other "
            "transactions are writing",
            hint="End the long transaction (see pg_stat_activity), then run the command again.",
        )

    def _wait_for_commits(self) -> None:
        """Wait until no session is committing, at most `LOCK_TIMEOUT` seconds, because writers wait meanwhile."""
        end = time.monotonic() + LOCK_TIMEOUT
        while self._committing() and time.monotonic() < end:
            time.sleep(0.005)

    def _committing(self) -> bool:
        self.session.execute("SELECT pg_stat_clear_snapshot()")
        return self._value(COMMITTING) != "0"

    def _cut(self) -> _Cut:
        """Export a snapshot and switch the WAL segment in one statement."""
        row = self.session.execute(CUT).fetchone()
        if row is None:
            raise LookupError(CUT)
        return _Cut(snapshot=str(row[0]), transactions=str(row[1]), last=str(row[2]))

    def _nothing_between(self, cut: _Cut) -> bool:
        """Return whether no transaction was committed between snapshot and switch.

        Sessions that are committing are checked first; one that ends after that check is found by the second query.
        """
        return not self._committing() and self._value(COMMITTED, cut.transactions, cut.transactions) == "0"

    def _copy_log(self, first: str, last: str) -> None:
        """Copy the WAL segments from *first* to *last* of the same timeline, and all timeline history files."""
        timeline = first[:8]
        for path in sorted((self.cluster / "pg_wal").iterdir()):
            segment = len(path.name) == len(first) and path.name.startswith(timeline) and first <= path.name <= last
            if segment or path.name.endswith(".history"):
                copy_tree(path, self.target / "pg_wal" / path.name)
        if not (self.target / "pg_wal" / last).exists():
            raise BackupFailedError(f"the server no longer has the WAL segment {last}", hint="Run the command again.")
        fs.sync_directory(self.target / "pg_wal")

    def _value(self, query: str, *parameters: str) -> str:
        row = self.session.execute(query.encode(), parameters or None).fetchone()
        return str(row[0]) if row is not None else ""


@dataclass(slots=True)
class _Snapshot:
    """A transaction of *connection* in an exported snapshot, from `begin` to `end`."""

    connection: Connection

    def begin(self, name: str, tables: Sequence[sql.Identifier]) -> None:
        """Begin a transaction in the snapshot *name*, and lock *tables* against being dropped, as ``pg_dump`` does."""
        self.connection.execute("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY")
        self.connection.execute(sql.SQL("SET TRANSACTION SNAPSHOT {}").format(sql.Literal(name)))
        lock_tables(self.connection, tables, lock_timeout=LOCK_TIMEOUT)

    def end(self) -> None:
        if not self.connection.closed:
            self.connection.rollback()
