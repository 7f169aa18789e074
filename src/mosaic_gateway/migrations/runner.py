"""Runs a plan so that a crash at any instant leaves a state from which the next run goes on.

Theory of operation. A migration is a row of statements; ``progress.applied`` counts how many of them
have taken effect. Each transaction is::

    BEGIN; progress k -> k + 1 (compare-and-set); statement k + 1; [last one: ledger row]; COMMIT

so that the count and the effect commit together or not at all. One transaction for each statement is
also what lets ``ALTER TYPE … ADD VALUE`` be used by the statement that follows it. Commits before the
last one of a migration are not flushed one by one (``synchronous_commit = off``): the log keeps their
order, so a crash can lose a tail of them, count and effect alike, but never tear the two apart.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

import psycopg
from psycopg import errors
from psycopg.pq import TransactionStatus

from mosaic_gateway.errors import InternalError, MigrationError
from mosaic_gateway.migrations import ledger, progress
from mosaic_gateway.migrations.bundle import Bundle
from mosaic_gateway.migrations.failure import (
    ConnectionLostError,
    LedgerAccessError,
    RunnerFencedError,
    StatementFailedError,
    describe,
)
from mosaic_gateway.migrations.lock import DEFAULT_LOCK_TIMEOUT, migration_lock
from mosaic_gateway.migrations.model import LedgerState, Migration, Plan, PlannedMigration, Statement
from mosaic_gateway.migrations.plan import make_plan

__all__ = ["MigrationReport", "StatementApplied", "migrate", "read_plan", "read_state"]

Connection = psycopg.Connection[tuple[object, ...]]
REPLANS = 100
OPEN_TRANSACTION = (TransactionStatus.INTRANS, TransactionStatus.INERROR)
#: What CREATE … IF NOT EXISTS raises when a rival creates the same thing at the same instant.
CREATED_MEANWHILE = (errors.UniqueViolation, errors.DuplicateSchema, errors.DuplicateTable, errors.DuplicateObject)


@dataclass(frozen=True, slots=True, kw_only=True)
class StatementApplied:
    """Statement ``number`` of ``total`` of migration ``tag`` is committed; it took ``seconds``."""

    tag: str
    number: int
    total: int
    seconds: float


@dataclass(frozen=True, slots=True, kw_only=True)
class MigrationReport:
    """What a run did: tags applied by it, in order, and the number that were applied before."""

    bundle: str
    applied: tuple[str, ...]
    already_applied: int


class _FencedError(Exception):
    """Another runner advanced this migration: plan again."""


def read_state(connection: Connection, bundle: Bundle) -> LedgerState:
    """Return what the database says of *bundle*. Writes nothing."""
    # Progress first: a migration that a rival ends between the two reads then counts as applied.
    rows = progress.read(connection, bundle.ledger)
    return LedgerState(applied=ledger.read(connection, bundle.ledger), progress=rows)


def read_plan(connection: Connection, bundle: Bundle) -> Plan:
    """Return what must run. Writes nothing. Raises the refusals of `plan.make_plan`."""
    return make_plan(bundle, read_state(connection, bundle))


def migrate(
    bundle: Bundle,
    connection: Connection,
    *,
    lock_timeout: float = DEFAULT_LOCK_TIMEOUT,
    on_statement: Callable[[StatementApplied], None] | None = None,
) -> MigrationReport:
    """Bring the database of *connection* (autocommit) to *bundle* and return what was done.

    Waits at most *lock_timeout* seconds for another runner. Raises the refusals of `plan.make_plan`
    before any write, `MigrationsBusyError`, `StatementFailedError`, `ConnectionLostError`,
    `LedgerAccessError` and `RunnerFencedError`; after each of them a later call goes on where this
    one stopped. Raises `InternalError` for a connection with an open transaction: it would enclose all.
    """
    if not connection.autocommit or connection.info.transaction_status in OPEN_TRANSACTION:
        raise InternalError("migrations need a connection in autocommit mode without an open transaction")
    run = _Run(bundle, connection, on_statement)
    try:
        before = read_plan(connection, bundle)
        if before.up_to_date:
            return MigrationReport(bundle=bundle.name, applied=(), already_applied=before.applied)
        with migration_lock(connection, lock_timeout):
            run.to_the_end()
    except psycopg.Error as error:
        raise _access_error(bundle, connection, error, run.finished) from error
    return MigrationReport(bundle=bundle.name, applied=tuple(run.finished), already_applied=run.already_applied)


def _access_error(bundle: Bundle, connection: Connection, error: psycopg.Error, finished: list[str]) -> MigrationError:
    details = {"applied": finished, "sqlstate": error.sqlstate}
    if connection.broken:
        return ConnectionLostError(
            f"{bundle.name}: the connection to the database was lost during the migrations: {str(error).strip()}",
            hint="Nothing has to be mended: run mosaic-gateway storage migrate again when the database is back.",
            details=details,
        )
    return LedgerAccessError(
        f"{bundle.name}: the record of the applied migrations cannot be read or written: {str(error).strip()}",
        hint="Make sure that the database user may create schemas and write to drizzle and mosaic, then run again.",
        details=details,
    )


class _Run:
    """One run over one bundle, under the lock."""

    def __init__(
        self, bundle: Bundle, connection: Connection, on_statement: Callable[[StatementApplied], None] | None
    ) -> None:
        self._bundle = bundle
        self._connection = connection
        self._on_statement = on_statement
        self.finished: list[str] = []
        self.already_applied = 0

    def to_the_end(self) -> None:
        """Plan and run until nothing is left; a fenced attempt plans again."""
        # Being fenced means that a rival went on by a statement: it can happen only so many times.
        for _ in range(REPLANS + sum(len(migration.statements) for migration in self._bundle.migrations)):
            plan = read_plan(self._connection, self._bundle)
            self.already_applied = plan.applied - len(self.finished)
            if plan.up_to_date:
                return
            try:
                self._run_plan(plan)
            except _FencedError:
                continue
        raise RunnerFencedError(
            f"{self._bundle.name}: other runners kept changing the progress of this run",
            hint="Nothing was applied twice. Let one of them finish, then run mosaic-gateway storage status.",
        )

    def _run_plan(self, plan: Plan) -> None:
        try:
            ledger.create(self._connection, self._bundle.ledger)
            progress.create(self._connection)
        except CREATED_MEANWHILE as error:
            raise _FencedError from error
        self._connection.execute("SET synchronous_commit = off")
        try:
            for planned in plan.pending:
                self._run_migration(planned)
        finally:
            if not self._connection.closed:
                self._connection.execute("RESET synchronous_commit")

    def _run_migration(self, planned: PlannedMigration) -> None:
        migration = planned.migration
        progress.begin(self._connection, self._bundle.ledger, migration)
        remaining = migration.statements[planned.start :]
        if not remaining:
            self._record_alone(planned)
        for statement in remaining:
            started = time.perf_counter()
            self._run_statement(migration, statement)
            if self._on_statement is not None:
                self._on_statement(
                    StatementApplied(
                        tag=migration.tag,
                        number=statement.number,
                        total=len(migration.statements),
                        seconds=time.perf_counter() - started,
                    )
                )
        self.finished.append(migration.tag)

    def _record_alone(self, planned: PlannedMigration) -> None:
        """Write the ledger row of a migration without further statements, if it is still missing."""
        with self._connection.transaction():
            progress.hold(self._connection, self._bundle.ledger, planned.migration)
            if planned not in read_plan(self._connection, self._bundle).pending:
                raise _FencedError
            self._connection.execute("SET LOCAL synchronous_commit = on")
            ledger.record(self._connection, self._bundle.ledger, planned.migration)

    def _run_statement(self, migration: Migration, statement: Statement) -> None:
        last = statement.number == len(migration.statements)
        try:
            with self._connection.transaction():
                if not progress.advance(self._connection, self._bundle.ledger, migration, statement.number - 1):
                    raise _FencedError
                self._connection.execute(statement.sql.encode())
                if last:
                    self._connection.execute("SET LOCAL synchronous_commit = on")
                    ledger.record(self._connection, self._bundle.ledger, migration)
        except psycopg.Error as error:
            if self._connection.broken or isinstance(error, psycopg.InterfaceError):
                raise
            self._fail(migration, statement, error)

    def _fail(self, migration: Migration, statement: Statement, error: psycopg.Error) -> None:
        failure = describe(migration, statement, error)
        if self._connection.info.transaction_status is TransactionStatus.IDLE:
            progress.note_failure(self._connection, self._bundle.ledger, failure)
        raise StatementFailedError(failure, tuple(self.finished)) from error
