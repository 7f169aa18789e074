"""An online backup: the files of a PostgreSQL at work, and its log up to one instant.

Theory of operation. PostgreSQL's low-level backup (chapter "Continuous Archiving" of its manual) instead of
``pg_basebackup``: blocks can be shared, no replication login is needed, and the backup can be made to end at an
instant of our choosing. A temporary slot keeps the log from being recycled. Files are copied between
``pg_backup_start`` and ``pg_backup_stop``, torn as they may be: the log makes them whole. Then all tables are locked
against writers for some milliseconds. While nobody can change a row, a snapshot is exported and the log is
switched to a new segment. The backup takes the log up to that switch and no further. So a server
started on the backup comes up with exactly the rows of the snapshot, in which they are counted and hashed
while the gateway goes on.

No lock keeps somebody from making a table, and dropping it again. So there must have been no commit between the
snapshot and the switch, which are taken in one statement; else we try again. A commit may be in the log before the
switch and yet be seen by nobody until the log is on disk (``RecordTransactionCommit`` comes before
``ProcArrayEndTransaction`` in PostgreSQL's xact.c): nobody may be about to commit at the switch.
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

from mosaic_gateway.engines.session import connect
from mosaic_gateway.errors import BusyError, MosaicError
from mosaic_gateway.fs.files import read_regular, write_file
from mosaic_gateway_installer.backup.row_checksums import (
    Contents,
    lock_tables,
    objects_hash,
    table_rows,
    tables_of,
    writers_blocked,
)
from mosaic_gateway_installer.backup.tree_copy import copy_tree, sync_directory

__all__ = ["BackupFailedError", "OnlineFacts", "WritersBusyError", "copy_running_cluster", "left_out"]

Connection = psycopg.Connection[TupleRow]
APPLICATION = "mosaic-gateway backup"
#: A writer that does not end holds up new writers for this long (seconds), then they go first and we try again.
LOCK_TIMEOUT = 0.8
LOCK_TRIES = 40
PAUSE = 0.5  # seconds between tries
#: Snapshot, its transactions, and the log's last segment. ``pg_switch_wal`` does nothing at the beginning of a
#: segment, where it would name one that others go on to fill: so a record comes first.
CUT = """
    SELECT pg_export_snapshot(), pg_current_snapshot()::text,
           CASE WHEN pg_logical_emit_message(false, 'mosaic-gateway', 'backup') IS NOT NULL
                THEN pg_walfile_name(pg_switch_wal() - 1) END
"""
#: How many that had not ended in the first snapshot had done so in the second, and were committed.
COMMITTED = """
    SELECT count(*) FROM (
        SELECT pg_snapshot_xip(%s::pg_snapshot) UNION
        SELECT generate_series(pg_snapshot_xmax(%s::pg_snapshot)::text::bigint,
                               pg_snapshot_xmax(pg_current_snapshot())::text::bigint - 1)::text::xid8
    ) AS later (xid) WHERE pg_xact_status(xid) = 'committed'
"""
#: Whoever has written, and neither waits for a lock nor for a client, may be about to commit. VACUUM makes nothing.
COMMITTING = """
    SELECT count(*) FROM pg_stat_activity
    WHERE backend_xid IS NOT NULL AND backend_type <> 'autovacuum worker' AND pid <> pg_backend_pid()
      AND wait_event_type IS DISTINCT FROM 'Lock' AND coalesce(state, '') NOT LIKE 'idle in transaction%'
"""
#: What tells that others were faster this time.
NO_INSTANT = (
    psycopg.errors.LockNotAvailable,
    psycopg.errors.UndefinedTable,
    psycopg.errors.DeadlockDetected,
)
#: What a server makes anew, or must not find: from "Making a Base Backup Using the Low Level API".
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
KEPT_DIRECTORIES = {"pg_wal/archive_status", "pg_wal/summaries"}
FILES = {"postmaster.pid", "postmaster.opts", "backup_label", "tablespace_map", "recovery.signal", "standby.signal"}


class BackupFailedError(MosaicError):
    """The backup could not be made; nothing of it is left."""

    code = "BACKUP_FAILED"


class WritersBusyError(BusyError):
    """Somebody keeps a transaction open that has written, so that there is no instant to back up."""

    code = "WRITERS_BUSY"


@dataclass(frozen=True, slots=True, kw_only=True)
class OnlineFacts:
    """What the running database said of the instant that the backup is of."""

    tables: Contents
    objects: str
    server_version: str


def left_out(path: str) -> bool:
    """Return whether an online backup leaves out *path*, which is relative to the cluster. Pure."""
    top, _, below = path.partition("/")
    name = path.rpartition("/")[2]
    if below and top in EMPTIED:
        return path not in KEPT_DIRECTORIES
    return path in FILES or name.startswith("pgsql_tmp") or name == "pg_internal.init"


def copy_running_cluster(
    cluster: Path,
    target: Path,
    conninfo: str,
    *,
    progress: Callable[[int], None] | None = None,
) -> OnlineFacts:
    """Copy *cluster*, which the server at *conninfo* runs, to *target*.

    *target* is complete and on disk in the end; on failure it may be there in part. Raises
    `WritersBusyError`, `BackupFailedError`, OSError.
    """
    try:
        with (
            closing(connect(conninfo, application_name=APPLICATION)) as session,
            closing(connect(conninfo, application_name=APPLICATION)) as reader,
        ):
            return _Backup(session, reader, cluster, target, progress).run()
    except psycopg.Error as error:
        raise BackupFailedError(
            f"PostgreSQL did not let itself be backed up: {' '.join(str(error).split())}",
            hint="Look at the log: mosaic-gateway logs. Stop the gateway for a backup of the files at rest.",
        ) from error


@dataclass(frozen=True, slots=True, kw_only=True)
class _Cut:
    """Where a backup ends: an exported snapshot, its transactions (``pg_snapshot``), the log's last segment."""

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
        # Immediately reserved, temporary: it goes with this session, however that ends.
        self.session.execute("SELECT pg_create_physical_replication_slot(%s, true, true)", [label])
        first = self._value("SELECT pg_walfile_name(pg_backup_start(%s, fast => true))", label)
        copy_tree(self.cluster, self.target, skip=left_out, vanishing=True, progress=self.progress)
        self._copy_control()
        self._stop()
        with self._instant() as last:
            self._copy_log(first, last)
            # In the snapshot, as the rows: what is made meanwhile is not in it.
            tables, objects = table_rows(self.reader), objects_hash(self.reader)
        version = self._value("SELECT split_part(current_setting('server_version'), ' ', 1)")
        return OnlineFacts(tables=tables, objects=objects, server_version=version)

    def _check(self) -> None:
        if self._value("SELECT current_setting('full_page_writes')") != "on":
            raise BackupFailedError(
                "full_page_writes is off, so files copied from the running database could not be made whole",
                hint="Stop the gateway for a backup of the files at rest.",
            )
        places = self._value("SELECT count(*) FROM pg_tablespace WHERE spcname NOT IN ('pg_default', 'pg_global')")
        if places != "0":
            raise BackupFailedError(
                f"the database has {places} tablespace(s) of its own, outside of the home",
                hint="Move their tables into the default tablespace, or back the database up with pg_basebackup.",
            )

    def _copy_control(self) -> None:
        """Copy pg_control again, as two readings in a row agree on it: the server may be writing it."""
        path = self.cluster / "global" / "pg_control"
        before, content = b"", read_regular(path)
        while before != content:
            before, content = content, read_regular(path)
        write_file(self.target / "global" / "pg_control", content)

    def _stop(self) -> None:
        row = self.session.execute("SELECT labelfile FROM pg_backup_stop(wait_for_archive => false)").fetchone()
        write_file(self.target / "backup_label", str(row[0]) if row else "")

    @contextmanager
    def _instant(self) -> Iterator[str]:
        """Choose the instant; inside the block the reader's transaction sees it. Gives the log's last segment."""
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
            except NO_INSTANT:
                snapshot.end()
            if left:
                time.sleep(PAUSE)
        raise WritersBusyError(
            f"for {LOCK_TRIES * (LOCK_TIMEOUT + PAUSE):.0f} s there was no instant without a transaction that writes",
            hint="End the long transaction (see pg_stat_activity), then run the command again.",
        )

    def _wait_for_commits(self) -> None:
        """Wait until nobody is about to commit, or a while: writers have to wait for us meanwhile."""
        end = time.monotonic() + LOCK_TIMEOUT
        while self._committing() and time.monotonic() < end:
            time.sleep(0.005)

    def _committing(self) -> bool:
        self.session.execute("SELECT pg_stat_clear_snapshot()")
        return self._value(COMMITTING) != "0"

    def _cut(self) -> _Cut:
        """Export a snapshot and end the log's segment, with next to nothing in between."""
        row = self.session.execute(CUT).fetchone()
        if row is None:
            raise LookupError(CUT)
        return _Cut(snapshot=str(row[0]), transactions=str(row[1]), last=str(row[2]))

    def _nothing_between(self, cut: _Cut) -> bool:
        """Return whether no transaction was committed between snapshot and switch, as far as can be known.

        First those that have not ended: one that ends after this look is among the second look's.
        """
        return not self._committing() and self._value(COMMITTED, cut.transactions, cut.transactions) == "0"

    def _copy_log(self, first: str, last: str) -> None:
        """Copy the segments from *first* to *last* of the same timeline, and every timeline's history."""
        timeline = first[:8]
        for path in sorted((self.cluster / "pg_wal").iterdir()):
            segment = len(path.name) == len(first) and path.name.startswith(timeline) and first <= path.name <= last
            if segment or path.name.endswith(".history"):
                copy_tree(path, self.target / "pg_wal" / path.name)
        if not (self.target / "pg_wal" / last).exists():
            raise BackupFailedError(f"the server no longer has {last} of its log", hint="Run the command again.")
        sync_directory(self.target / "pg_wal")

    def _value(self, query: str, *parameters: str) -> str:
        row = self.session.execute(query.encode(), parameters or None).fetchone()
        return str(row[0]) if row is not None else ""


@dataclass(slots=True)
class _Snapshot:
    """A transaction of *connection* that sees an exported snapshot, from `begin` to `end`."""

    connection: Connection

    def begin(self, name: str, tables: Sequence[sql.Identifier]) -> None:
        """See the snapshot *name*, and keep *tables* from being dropped, as ``pg_dump`` does."""
        self.connection.execute("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY")
        self.connection.execute(sql.SQL("SET TRANSACTION SNAPSHOT {}").format(sql.Literal(name)))
        lock_tables(self.connection, tables, lock_timeout=LOCK_TIMEOUT)

    def end(self) -> None:
        if not self.connection.closed:
            self.connection.rollback()
