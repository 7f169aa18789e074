"""Brings a database to a bundle so that a crash at any instant leaves a state from which the next run goes on.

Theory of operation. A migration is a row of statements; ``progress.applied`` counts how many of them
have taken effect. Each transaction is::

    BEGIN; progress k -> k + 1 (compare-and-set); [last one: ledger row]; statement k + 1; COMMIT

so that the count and the effect commit together or not at all. One transaction for each statement is
also what lets ``ALTER TYPE … ADD VALUE`` be used by the statement that follows it. Commits are flushed
to disk once a message, at its last ledger row (``synchronous_commit``): the log keeps their order, so a
crash can lose a tail of them, count and effect alike, but never tear the two apart.

`executor` sends the statements; here are the lock around it, the plan, and what went wrong.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import asdict, dataclass

import psycopg
from psycopg import errors
from psycopg.pq import TransactionStatus

from mosaic_gateway.errors import InternalError, MigrationError
from mosaic_gateway.migrations import ledger, progress, session_state
from mosaic_gateway.migrations.bundle import Bundle
from mosaic_gateway.migrations.events import Event, LockBusy, LockWaited, PlanComputed, PoolerDetected
from mosaic_gateway.migrations.executor import Executor, FencedError
from mosaic_gateway.migrations.failure import ConnectionLostError, LedgerAccessError, RunnerFencedError
from mosaic_gateway.migrations.lock import DEFAULT_LOCK_TIMEOUT, LockHolder, migration_lock, reacquire
from mosaic_gateway.migrations.model import LedgerState, Plan
from mosaic_gateway.migrations.plan import DriftError, changed_statements, make_plan
from mosaic_gateway.migrations.pooler import pinned_lock, pooler_reason
from mosaic_gateway.migrations.shared_session import has_one_session, refuse_what_is_shared

__all__ = ["STATEMENT_LOCK_TIMEOUT", "MigrationReport", "migrate", "read_plan", "read_state"]

Connection = psycopg.Connection[tuple[object, ...]]
STATEMENT_LOCK_TIMEOUT = 5.0  # seconds that one statement waits for a table's lock before it is tried again
WAITED = 0.5  # seconds of waiting that are worth telling
REPLANS = 100
OPEN_TRANSACTION = (TransactionStatus.INTRANS, TransactionStatus.INERROR)
#: What CREATE … IF NOT EXISTS raises when a rival creates the same thing at the same instant.
CREATED_MEANWHILE = (errors.UniqueViolation, errors.DuplicateSchema, errors.DuplicateTable, errors.DuplicateObject)


@dataclass(frozen=True, slots=True, kw_only=True)
class MigrationReport:
    """What a run did: tags applied by it, in order, and the number that were applied before."""

    bundle: str
    applied: tuple[str, ...]
    already_applied: int


def read_state(connection: Connection, bundle: Bundle) -> LedgerState:
    """Return what the database says of *bundle*. Writes nothing."""
    # Progress of all tags first: a migration that a rival ends between the two reads then counts as applied.
    rows = progress.read(connection, bundle.ledger, [migration.tag for migration in bundle.migrations])
    return LedgerState(applied=ledger.read(connection, bundle.ledger), progress=rows)


def read_plan(connection: Connection, bundle: Bundle) -> Plan:
    """Return what must run. Writes nothing. Raises the refusals of `plan.make_plan`."""
    if ledger.fingerprint(connection, bundle.ledger) == bundle.ledger_digest:
        return Plan(pending=(), applied=len(bundle.migrations))
    try:
        return make_plan(bundle, read_state(connection, bundle))
    except DriftError as drift:
        raise _with_changes(connection, bundle, drift) from None


def _with_changes(connection: Connection, bundle: Bundle, drift: DriftError) -> DriftError:
    """Return *drift* with the numbers of the statements that were changed, where they were noted."""
    changes = []
    for migration in bundle.migrations:
        if migration.tag in drift.details["tags"]:
            noted = progress.digests(connection, bundle.ledger, migration.tag)
            changes.append({"tag": migration.tag, **changed_statements(noted, migration)})
    summary = "".join(f"\n  {change['tag']}: {change['text']}" for change in changes)
    return DriftError(f"{drift.message}{summary}", hint=drift.hint, details={**drift.details, "changes": changes})


def migrate(
    bundle: Bundle,
    connection: Connection,
    *,
    lock_timeout: float = DEFAULT_LOCK_TIMEOUT,
    statement_lock_timeout: float = STATEMENT_LOCK_TIMEOUT,
    alone: bool = False,
    on_event: Callable[[Event], None] | None = None,
) -> MigrationReport:
    """Bring the database of *connection* (autocommit) to *bundle* and return what was done.

    *alone*: nobody else is connected to the server; only asked where all share one session (`one_session`).
    Waits at most *lock_timeout* seconds for another runner, and *statement_lock_timeout* seconds for a
    lock that a statement needs, several times. Raises the refusals of `plan.make_plan` before any write,
    `MigrationsBusyError`, `ChunkRefusedError`, `StatementFailedError`, `UndecidedError`,
    `ConnectionLostError`, `LedgerAccessError` and `RunnerFencedError`; after each of them a later call goes
    on where this one stopped. Raises `InternalError` for a connection with an open transaction: it would
    enclose all.
    """
    if not connection.autocommit or connection.info.transaction_status in OPEN_TRANSACTION:
        raise InternalError("migrations need a connection in autocommit mode without an open transaction")
    run = _Run(bundle, connection, statement_lock_timeout, on_event or _ignore, alone=alone)
    try:
        with session_state.unprepared(connection):
            return run.locked(lock_timeout)
    except psycopg.Error as error:
        raise _access_error(bundle, connection, error, run.finished) from error


def _ignore(_event: Event) -> None:
    """Nobody watches."""


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
        self,
        bundle: Bundle,
        connection: Connection,
        statement_lock_timeout: float,
        on_event: Callable[[Event], None],
        *,
        alone: bool = False,
    ) -> None:
        self._bundle = bundle
        self._alone = alone
        self._shared = False
        self._connection = connection
        self._statement_lock_timeout = statement_lock_timeout
        self.emit = on_event
        self._hold: Callable[[], None] = lambda: None
        self._pooled = False
        self.finished: list[str] = []
        self.already_applied = 0

    def locked(self, lock_timeout: float) -> MigrationReport:
        """Do what is to be done, if anything is, under the lock."""
        before = read_plan(self._connection, self._bundle)
        if before.up_to_date:
            return MigrationReport(bundle=self._bundle.name, applied=(), already_applied=before.applied)
        with self._lock(lock_timeout) as waited:
            if waited > WAITED:
                self.emit(LockWaited(bundle=self._bundle.name, seconds=round(waited, 3)))
            self.to_the_end()
        return MigrationReport(
            bundle=self._bundle.name, applied=tuple(self.finished), already_applied=self.already_applied
        )

    def _report_holder(self, holder: LockHolder) -> None:
        self.emit(LockBusy(bundle=self._bundle.name, **asdict(holder)))

    def _lock(self, timeout: float) -> AbstractContextManager[float]:
        """Return the lock that fits the server, and note what others share with us there."""
        if has_one_session(self._connection):
            self._shared = not self._alone
            return nullcontext(0.0)
        reason = pooler_reason(self._connection)
        if reason is None:
            self._hold = lambda: reacquire(self._connection, timeout)
            return migration_lock(self._connection, timeout, self._report_holder)
        self._pooled = True
        self.emit(PoolerDetected(bundle=self._bundle.name, reason=reason))
        return pinned_lock(self._connection, timeout, self._report_holder)

    def to_the_end(self) -> None:
        """Plan and run until nothing is left; a fenced attempt plans again."""
        summary = False
        # Being fenced means that a rival went on by a statement or a file: it can happen only so many times.
        for _ in range(REPLANS + sum(len(migration.statements) + 1 for migration in self._bundle.migrations)):
            rows = ledger.count(self._connection, self._bundle.ledger)  # before the plan: rows after it fence
            plan = read_plan(self._connection, self._bundle)
            self.already_applied = plan.applied - len(self.finished)
            if plan.up_to_date:
                return
            if not summary:
                self.emit(_plan_computed(self._bundle, plan))
                summary = True
            if self._shared:
                refuse_what_is_shared(plan)
            try:
                self._run_plan(plan, rows)
            except FencedError:
                continue
        raise RunnerFencedError(
            f"{self._bundle.name}: other runners kept changing the progress of this run",
            hint="Nothing was applied twice. Let one of them finish, then run mosaic-gateway storage status.",
        )

    def _run_plan(self, plan: Plan, rows: int) -> None:
        try:
            ledger.create(self._connection, self._bundle.ledger)
            progress.create(self._connection)
        except CREATED_MEANWHILE as error:
            raise FencedError from error
        executor = Executor(
            self._bundle,
            self._connection,
            statement_lock_timeout=self._statement_lock_timeout,
            ledger_rows=rows,
            finished=self.finished,
            hold=self._hold,
            pooled=self._pooled,
            on_event=self.emit,
        )
        executor.run(plan)
        ledger.name_rows(self._connection, self._bundle.ledger, self._bundle.migrations)


def _plan_computed(bundle: Bundle, plan: Plan) -> PlanComputed:
    statements = sum(len(planned.migration.statements) - planned.start for planned in plan.pending)
    return PlanComputed(bundle=bundle.name, migrations=len(plan.pending), statements=statements)
