"""Is there a transaction pooler between us and PostgreSQL, and how to hold the lock through it.

A transaction pooler (PgBouncer in that mode) gives each transaction another server process, shared with other
clients: what a session sets, prepares or locks there reaches strangers and not us. A pooler shows by the
process id that it sends at the start of a connection ("BackendKeyData" of the protocol), which is not the
one that the server knows. One that keeps a server process for each client is as good as none.

Through a transaction pooler the lock is held by an open transaction, which keeps its server process: a second
connection, idle in a transaction without a snapshot, so that CREATE INDEX CONCURRENTLY does not wait for it.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import psycopg

from mosaic_gateway.errors import RefusedError
from mosaic_gateway.migrations.lock import LockHolder, acquire, migration_lock, try_in_transaction
from mosaic_gateway.migrations.model import Plan
from mosaic_gateway.migrations.shared_session import has_one_session
from mosaic_gateway.migrations.statement_traits import traits_of

__all__ = ["PoolerSessionError", "lock_by_any_way", "pinned_lock", "pooler_reason", "refuse_session_statements"]

Connection = psycopg.Connection[tuple[object, ...]]
LOOKS = 4


class PoolerSessionError(RefusedError):
    """A migration sets something for its session, which a transaction pooler does not have."""

    code = "POOLER_SESSION"


def pooler_reason(connection: Connection) -> str | None:
    """Return a sentence that says why a transaction pooler must be there, None where none shows. Reads only.

    Opens a second connection where there is a pooler of some kind.
    """
    claimed, real = connection.info.backend_pid, _server_process(connection)
    if claimed == real:
        return None
    seen, others = {real}, set[int]()
    with _second(connection) as second:
        for _ in range(LOOKS):
            others.add(_server_process(second))
            seen.add(_server_process(connection))
    if len(seen) > 1:
        return f"consecutive statements ran in the server processes {', '.join(map(str, sorted(seen)))}"
    if seen & others or len(others) > 1:
        return f"two connections share the server process {real}, and the first was opened to process {claimed}"
    return None


@contextmanager
def lock_by_any_way(connection: Connection, timeout: float) -> Iterator[float]:
    """Hold the migration lock inside the block, whether there is a pooler or not; give the seconds waited.

    Where all share one session there is none to be had (see `one_session`). Raises `MigrationsBusyError`.
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
    """Hold the migration lock inside the block as `lock.migration_lock` does, through a transaction pooler.

    Raises `MigrationsBusyError`.
    """
    began = time.monotonic()
    with _second(connection) as second:
        acquire(second, timeout, try_in_transaction, on_wait)
        try:
            yield time.monotonic() - began
        finally:
            if not second.broken:
                second.execute("ROLLBACK")


def refuse_session_statements(plan: Plan) -> None:
    """Raise `PoolerSessionError` if *plan* holds a statement that is only right in a session of its own."""
    for planned in plan.pending:
        retained = planned.progress.session if planned.progress is not None else {}
        for statement in planned.migration.statements:
            traits = traits_of(statement.sql)
            if (statement.number > planned.start or retained) and (traits.sets_session or traits.temporary):
                raise PoolerSessionError(
                    f"{planned.migration.tag}.sql, statement {statement.number}, line {statement.line} sets something "
                    "for its session; through the transaction pooler it would reach other clients, and not this file",
                    hint="Nothing was run. Give the address of PostgreSQL itself, or of a pooler in session mode.",
                    details={"tag": planned.migration.tag, "statement": statement.number, "line": statement.line},
                )


@contextmanager
def _second(connection: Connection) -> Iterator[Connection]:
    """Open another connection to the same place."""
    info = connection.info
    conninfo = psycopg.conninfo.make_conninfo(info.dsn, password=info.password or None)
    with psycopg.connect(conninfo, autocommit=True, prepare_threshold=None) as second:
        yield second


def _server_process(connection: Connection) -> int:
    row = connection.execute("SELECT pg_backend_pid()").fetchone()
    return int(str(row[0])) if row else 0
