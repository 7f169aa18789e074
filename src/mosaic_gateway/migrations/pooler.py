"""Detection of a transaction pooler between the runner and PostgreSQL, and the migration lock through one.

A transaction pooler (PgBouncer with pool_mode=transaction) may run each transaction in another backend, shared with
other clients: session settings, prepared statements and session-level locks affect other clients and not the runner.
A pooler is detected by the process id in the protocol message BackendKeyData, which differs from pg_backend_pid().
A pooler in session mode needs no special treatment.

Through a transaction pooler the lock is held by an open transaction on a second connection, because a transaction
stays in its backend. The transaction has no snapshot, so CREATE INDEX CONCURRENTLY does not wait for it.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import psycopg

from mosaic_gateway.errors import RefusedError
from mosaic_gateway.migrations.advisory_lock import LockHolder, acquire, migration_lock, try_in_transaction
from mosaic_gateway.migrations.model import Plan
from mosaic_gateway.migrations.shared_session import has_one_session
from mosaic_gateway.migrations.statement_traits import traits_of

__all__ = ["PoolerSessionError", "pinned_lock", "pooler_aware_lock", "pooler_reason", "refuse_session_statements"]

Connection = psycopg.Connection[tuple[object, ...]]
SAMPLES = 4  # queries on each of two connections


class PoolerSessionError(RefusedError):
    """A migration changes its session, which is impossible through a transaction pooler."""

    code = "POOLER_SESSION"


def pooler_reason(connection: Connection) -> str | None:
    """Return the evidence for a transaction pooler as a sentence, None if there is none. Reads only.

    Opens a second connection if there is a pooler in any mode.
    """
    announced, actual = connection.info.backend_pid, _server_process(connection)
    if announced == actual:
        return None
    seen, others = {actual}, set[int]()
    with _second(connection) as second:
        for _ in range(SAMPLES):
            others.add(_server_process(second))
            seen.add(_server_process(connection))
    if len(seen) > 1:
        return f"consecutive statements ran in the server processes {', '.join(map(str, sorted(seen)))}"
    if seen & others or len(others) > 1:
        return f"two connections share the server process {actual}; the first was opened to process {announced}"
    return None


@contextmanager
def pooler_aware_lock(connection: Connection, timeout: float) -> Iterator[float]:
    """Hold the migration lock inside the block, with or without a pooler; yield the seconds waited.

    On a server with one shared session no lock is acquired (see `shared_session`). Raises `MigrationsBusyError`.
    """
    if has_one_session(connection):
        yield 0.0
        return
    lock = migration_lock if pooler_reason(connection) is None else pinned_lock
    with lock(connection, timeout) as waited:
        yield waited


@contextmanager
def pinned_lock(
    connection: Connection, timeout: float, on_wait: Callable[[LockHolder], None] | None = None
) -> Iterator[float]:
    """Hold the migration lock inside the block through a transaction pooler, like `lock.migration_lock`.

    Raises `MigrationsBusyError`.
    """
    started = time.monotonic()
    with _second(connection) as second:
        acquire(second, timeout, try_in_transaction, on_wait)
        try:
            yield time.monotonic() - started
        finally:
            if not second.broken:
                second.execute("ROLLBACK")


def refuse_session_statements(plan: Plan) -> None:
    """Raise `PoolerSessionError` if *plan* contains a statement that needs a session of its own."""
    for planned in plan.pending:
        saved_settings = planned.progress.session if planned.progress is not None else {}
        for statement in planned.migration.statements:
            traits = traits_of(statement.sql)
            if (statement.number > planned.start or saved_settings) and (traits.sets_session or traits.temporary):
                raise PoolerSessionError(
                    f"{planned.migration.file}, statement {statement.number}, line {statement.line} changes its "
                    "session; through the transaction pooler this would affect other clients instead of this file",
                    hint="Nothing was run. Connect to PostgreSQL directly, or through a pooler in session mode.",
                    details={"tag": planned.migration.tag, "statement": statement.number, "line": statement.line},
                )


@contextmanager
def _second(connection: Connection) -> Iterator[Connection]:
    """Open a second connection with the same parameters."""
    info = connection.info
    conninfo = psycopg.conninfo.make_conninfo(info.dsn, password=info.password or None)
    with psycopg.connect(conninfo, autocommit=True, prepare_threshold=None) as second:
        yield second


def _server_process(connection: Connection) -> int:
    row = connection.execute("SELECT pg_backend_pid()").fetchone()
    return int(str(row[0])) if row else 0
