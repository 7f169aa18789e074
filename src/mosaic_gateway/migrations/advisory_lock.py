"""The migration lock: a session-level advisory lock that admits one runner at a time.

It is polled: a runner that blocks inside PostgreSQL holds a snapshot, and CREATE INDEX CONCURRENTLY of
another runner would wait for that snapshot. It is held on the connection that runs the migrations, so that
lock and migrations end together if the connection is lost.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass

import psycopg

from mosaic_gateway.errors import BusyError

__all__ = [
    "DEFAULT_LOCK_TIMEOUT",
    "LockHolder",
    "MigrationsBusyError",
    "acquire",
    "lock_creation",
    "migration_lock",
    "reacquire",
    "try_in_transaction",
]

Connection = psycopg.Connection[tuple[object, ...]]

#: The two halves of the key: crc32 of "mosaic-gateway" and of "migrations", as signed 32-bit integers.
KEY = (-1569950593, 1856466978)
#: The key under which the ledger and the progress table are created: the second half is crc32 of "tables".
CREATION_KEY = (KEY[0], -2075721183)
DEFAULT_LOCK_TIMEOUT = 60.0  # seconds
FIRST_PAUSE = 0.02  # seconds
LONGEST_PAUSE = 0.5  # seconds
WITH_TRANSACTION_TIMEOUT = 170000  # PostgreSQL 17
REPORT_AFTER = 0.3  # seconds of waiting

HELD = """
SELECT EXISTS (SELECT FROM pg_locks
    WHERE locktype = 'advisory' AND granted AND objsubid = 2 AND pid = pg_backend_pid()
    AND classid::bigint = %s & 4294967295 AND objid::bigint = %s & 4294967295)
"""
HOLDER = """
SELECT a.pid, coalesce(a.application_name, ''), left(coalesce(a.query, ''), 200),
       extract(epoch FROM clock_timestamp() - a.backend_start)::float8
FROM pg_locks l JOIN pg_stat_activity a USING (pid)
WHERE l.locktype = 'advisory' AND l.granted AND l.objsubid = 2
  AND l.classid::bigint = %s & 4294967295 AND l.objid::bigint = %s & 4294967295
  AND l.database = (SELECT oid FROM pg_database WHERE datname = current_database())
"""


class MigrationsBusyError(BusyError):
    """Another runner holds the migration lock of this database."""

    code = "MIGRATIONS_BUSY"


@dataclass(frozen=True, slots=True, kw_only=True)
class LockHolder:
    """The lock's holder: backend pid, application name, last query, and seconds since it connected."""

    pid: int
    application: str
    query: str
    age_seconds: float


@contextmanager
def migration_lock(
    connection: Connection, timeout: float, on_wait: Callable[[LockHolder], None] | None = None
) -> Iterator[float]:
    """Hold the database's migration lock inside the block; wait at most *timeout* seconds for it.

    Yields the seconds waited. *on_wait* is called once with the holder if the wait exceeds `REPORT_AFTER`.
    Raises `MigrationsBusyError`, which names the holder's pid, query and age.
    """
    started = time.monotonic()
    acquire(connection, timeout, on_wait=on_wait)
    try:
        yield time.monotonic() - started
    finally:
        if not connection.closed:
            connection.execute("SELECT pg_advisory_unlock(%s, %s)", KEY)


def reacquire(connection: Connection, timeout: float) -> None:
    """Acquire the lock again if the session lost it: DISCARD ALL releases all advisory locks.

    Raises `MigrationsBusyError`.
    """
    row = connection.execute(HELD, KEY).fetchone()
    if not (row and row[0]):
        acquire(connection, timeout)


def acquire(
    connection: Connection,
    timeout: float,
    attempt: Callable[[Connection], bool] | None = None,
    on_wait: Callable[[LockHolder], None] | None = None,
) -> None:
    """Acquire the lock by polling *attempt* for at most *timeout* seconds. Raises `MigrationsBusyError`."""
    attempt = attempt or _try
    started = time.monotonic()
    pause = FIRST_PAUSE
    while not attempt(connection):
        now = time.monotonic()
        if now >= started + timeout:
            raise _busy(connection, timeout)
        if on_wait is not None and now >= started + REPORT_AFTER and (holder := _holder(connection)) is not None:
            on_wait(holder)
            on_wait = None
        time.sleep(pause * random.uniform(0.5, 1.0))  # noqa: S311 - jitter, not a secret
        pause = min(pause * 1.5, LONGEST_PAUSE)


def try_in_transaction(connection: Connection) -> bool:
    """Try to acquire the lock in a new transaction; on success the transaction stays open, else it is rolled back."""
    connection.execute("BEGIN ISOLATION LEVEL READ COMMITTED; SET LOCAL idle_in_transaction_session_timeout = 0")
    if connection.info.server_version >= WITH_TRANSACTION_TIMEOUT:
        connection.execute("SET LOCAL transaction_timeout = 0")
    # Simple protocol, without parameters: with the extended protocol the portal stays open and retains its snapshot,
    # and CREATE INDEX CONCURRENTLY would wait for that.
    row = connection.execute("SELECT pg_try_advisory_xact_lock({}, {})".format(*KEY).encode()).fetchone()
    if row and row[0]:
        return True
    connection.execute("ROLLBACK")
    return False


def lock_creation(connection: Connection) -> None:
    """Wait until no other transaction creates these tables; the lock ends with the open transaction."""
    connection.execute("SELECT pg_advisory_xact_lock(%s, %s)", CREATION_KEY)


def _try(connection: Connection) -> bool:
    row = connection.execute("SELECT pg_try_advisory_lock(%s, %s)", KEY).fetchone()
    return bool(row and row[0])


def _holder(connection: Connection) -> LockHolder | None:
    row = connection.execute(HOLDER, KEY).fetchone()
    if row is None:
        return None
    pid, application, query, age = row
    return LockHolder(pid=int(str(pid)), application=str(application), query=str(query), age_seconds=float(str(age)))


def _busy(connection: Connection, timeout: float) -> MigrationsBusyError:
    holder = _holder(connection)
    if holder is None:
        return MigrationsBusyError(
            f"the migration lock was not released within {timeout:g} s", hint="Run the command again."
        )
    return MigrationsBusyError(
        f"another migration run holds the lock: server process {holder.pid} "
        f"({holder.application or 'no application name'}), connected for {holder.age_seconds:.0f} s, "
        f"last query: {holder.query}",
        hint="Wait until it ends, then run the command again. Terminate it only if you are sure that it hangs.",
        details=asdict(holder),
    )
