"""Brings a database to a bundle so that the next run can resume after a crash at any instant.

Theory of operation. A migration is a sequence of statements; ``progress.applied`` counts how many of them
have taken effect. Each transaction is::

    BEGIN; progress k -> k + n (compare-and-set); [last one: ledger row]; statements k + 1 to k + n; COMMIT

so that count and effect commit together or not at all. n is 1 unless SQL itself needs one transaction (`groups`). One
transaction per statement also allows a statement to use a value that the previous one added with ``ALTER TYPE … ADD
VALUE``. Commits are flushed to disk once
per message that finishes a migration (``synchronous_commit``). WAL is ordered, so a crash can lose the last
commits, each with both its count and its effect, but never only one of the two.

`executor` sends the statements; this module acquires the lock, computes the plan and translates errors.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, ExitStack, nullcontext
from dataclasses import asdict

import psycopg
from psycopg import errors
from psycopg.pq import TransactionStatus

from mosaic_gateway.errors import MigrationError, UsageError
from mosaic_gateway.hint import command
from mosaic_gateway.migrations import (
    advisory_lock,
    events,
    failure,
    ledger,
    model,
    pooler,
    progress,
    record_tables,
    session_settings,
    session_state,
)
from mosaic_gateway.migrations.bundle import Bundle
from mosaic_gateway.migrations.executor import Executor, RunMemory
from mosaic_gateway.migrations.plan import DriftError, changed_statements, make_plan
from mosaic_gateway.migrations.progress import FencedError
from mosaic_gateway.migrations.shared_session import has_one_session, refuse_session_dependent

__all__ = ["STATEMENT_LOCK_TIMEOUT", "migrate", "read_plan", "read_state", "report_up_to_date"]

Connection = psycopg.Connection[tuple[object, ...]]
STATEMENT_LOCK_TIMEOUT = 5.0  # seconds that one statement waits for a table lock before it is retried
REPORT_WAIT = 0.5  # seconds of waiting from which on the wait is reported
REPLANS = 100
OPEN_TRANSACTION = (TransactionStatus.INTRANS, TransactionStatus.INERROR)
#: Errors of CREATE … IF NOT EXISTS if another session creates the same object concurrently.
CREATED_CONCURRENTLY = (errors.UniqueViolation, errors.DuplicateSchema, errors.DuplicateTable, errors.DuplicateObject)


def read_state(connection: Connection, bundle: Bundle) -> model.LedgerState:
    """Return the recorded state of *bundle*. Writes nothing.

    ``drizzle-kit up`` moves a file to a folder with another number before the same name: a migration that was half
    applied before has a progress row with its former tag.
    """
    # Progress is read first: a migration that another runner finishes between the two reads then counts as applied.
    rows = progress.read(connection, bundle.ledger, [migration.tag for migration in bundle.migrations])
    if bundle.in_folders:
        tags = {migration.tag for migration in bundle.migrations}
        former = {(row.hash, row.tag.partition("_")[2]): row for row in rows.values() if row.tag not in tags}
        for migration in bundle.migrations:
            key = migration.hash, migration.tag.partition("_")[2]
            if migration.tag not in rows and key in former:
                rows[migration.tag] = former[key]
    return model.LedgerState(applied=ledger.read(connection, bundle.ledger), progress=rows)


def read_plan(connection: Connection, bundle: Bundle) -> model.Plan:
    """Return what must run. Writes nothing. Raises the errors of `plan.make_plan`, and `ChunkRefusedError`."""
    if ledger.has_exactly(connection, bundle):
        return model.Plan(pending=(), applied=len(bundle.migrations))
    try:
        plan = make_plan(bundle, read_state(connection, bundle))
    except DriftError as drift:
        raise _with_changes(connection, bundle, drift) from None
    failure.refuse(plan)
    return plan


def report_up_to_date(bundle: Bundle, plan: model.Plan) -> model.MigrationReport:
    """Return the report of a run that has nothing to do according to *plan*."""
    return model.MigrationReport(
        bundle=bundle.name, applied=(), already_applied=plan.applied, other_line_endings=plan.other_line_endings
    )


def _with_changes(connection: Connection, bundle: Bundle, drift: DriftError) -> DriftError:
    """Return *drift* with the changed statements, as far as digests of the applied ones are recorded."""
    changes = []
    for migration in bundle.migrations:
        if migration.tag in drift.details["tags"]:
            recorded = progress.digests(connection, bundle.ledger, migration.tag)
            changes.append({"tag": migration.tag, **changed_statements(recorded, migration)})
    summary = "".join(f"\n  {change['tag']}: {change['text']}" for change in changes)
    return DriftError(f"{drift.message}{summary}", hint=drift.hint, details={**drift.details, "changes": changes})


def migrate(
    bundle: Bundle,
    connection: Connection,
    *,
    lock_timeout: float = advisory_lock.DEFAULT_LOCK_TIMEOUT,
    statement_lock_timeout: float = STATEMENT_LOCK_TIMEOUT,
    alone: bool = False,
    on_event: Callable[[events.Event], None] | None = None,
) -> model.MigrationReport:
    """Bring the database of *connection* (in autocommit mode) to *bundle* and return what was applied.

    *alone*: no other client is connected to the server; only used if all clients share one session
    (`shared_session`). Waits at most *lock_timeout* seconds for another runner, and for each attempt of a statement
    at most *statement_lock_timeout* seconds for a table lock. Raises the errors of `plan.make_plan` before any write,
    `MigrationsBusyError`, `ChunkRefusedError`, `StatementFailedError`, `UndecidedError`, `ConnectionLostError`,
    `LedgerAccessError` and `RunnerFencedError`; after each of them a later call resumes where this one stopped.
    Raises `SessionSettingError`, and `UsageError` for anything but such a connection without an open transaction,
    which would enclose all statements. Inside the call the session has the settings of `session_settings`.
    """
    _check_connection(connection)
    run = _Run(bundle, connection, statement_lock_timeout, on_event or _ignore, alone=alone)
    try:
        with session_state.unprepared(connection):
            return run.run(lock_timeout)
    except psycopg.Error as error:
        raise _access_error(bundle, connection, error, run.finished) from error


def _check_connection(connection: object) -> None:
    """Raise `UsageError` unless *connection* is one that `migrate` takes."""
    given = f"{type(connection).__module__}.{type(connection).__qualname__}"
    if not isinstance(connection, psycopg.Connection):
        instead = "Open one: psycopg.connect(url, autocommit=True)"
        if isinstance(connection, psycopg.AsyncConnection):
            instead = "Migrations are synchronous: open a psycopg.Connection, and call migrate in a thread"
        elif given.startswith("sqlalchemy."):
            instead = "Give it a connection of psycopg itself: psycopg.connect(url, autocommit=True)"
        raise UsageError(
            f"migrate takes an open psycopg.Connection in autocommit mode, not {given.removeprefix('builtins.')}",
            hint=f"{instead}.",
        )
    if not connection.autocommit:
        raise UsageError(
            "migrate takes a connection in autocommit mode: it begins and ends transactions itself",
            hint="Open it with psycopg.connect(url, autocommit=True), or set connection.autocommit = True.",
        )
    if connection.info.transaction_status in OPEN_TRANSACTION:
        raise UsageError(
            "migrate takes a connection without an open transaction: it would enclose all migrations",
            hint="Commit or roll back first.",
        )


def _ignore(_event: events.Event) -> None:
    """Discard the event."""


def _access_error(bundle: Bundle, connection: Connection, error: psycopg.Error, finished: list[str]) -> MigrationError:
    details = {"applied": finished, "sqlstate": error.sqlstate}
    if connection.broken:
        return failure.ConnectionLostError(
            f"{bundle.name}: the connection to the database was lost during the migrations: {str(error).strip()}",
            hint="No repair is needed: run " + command("storage migrate") + " again when the database is available.",
            details=details,
        )
    return failure.LedgerAccessError(
        f"{bundle.name}: the record of the applied migrations cannot be read or written: {str(error).strip()}",
        hint="Make sure that the database user may create schemas and write to the ledger "
        f"{bundle.ledger} and to the schema mosaic, then run the command again.",
        details=details,
    )


class _Run:
    """One run over one bundle, under the lock."""

    def __init__(
        self,
        bundle: Bundle,
        connection: Connection,
        statement_lock_timeout: float,
        on_event: Callable[[events.Event], None],
        *,
        alone: bool = False,
    ) -> None:
        self._bundle = bundle
        self._alone = alone
        self._shared = False
        self._connection = connection
        self._statement_lock_timeout = statement_lock_timeout
        self.emit = on_event
        self._reacquire_lock: Callable[[], None] = lambda: None
        self._pooled = False
        self._memory = RunMemory()
        self.finished = self._memory.finished
        self.already_applied = 0

    def run(self, lock_timeout: float) -> model.MigrationReport:
        """Apply pending migrations under the lock; if there are none, return without acquiring it."""
        with ExitStack() as stack:
            direct = session_settings.is_direct(self._connection)
            if direct:
                stack.enter_context(session_settings.migration_session(self._connection))
            before = read_plan(self._connection, self._bundle)
            if before.up_to_date and self._ledger_is_current():
                return report_up_to_date(self._bundle, before)
            waited = stack.enter_context(self._lock(lock_timeout))
            if waited > REPORT_WAIT:
                self.emit(events.LockWaited(bundle=self._bundle.name, seconds=round(waited, 3)))
            if not direct and not self._pooled:
                stack.enter_context(session_settings.migration_session(self._connection))
            self.run_until_up_to_date()
        return model.MigrationReport(
            bundle=self._bundle.name,
            applied=tuple(self.finished),
            already_applied=self.already_applied,
            other_line_endings=before.other_line_endings,
        )

    def _report_holder(self, holder: advisory_lock.LockHolder) -> None:
        self.emit(events.LockBusy(bundle=self._bundle.name, **asdict(holder)))

    def _lock(self, timeout: float) -> AbstractContextManager[float]:
        """Return the lock that suits the server; record whether the session is pooled or shared."""
        if has_one_session(self._connection):
            self._shared = not self._alone
            return nullcontext(0.0)
        reason = pooler.pooler_reason(self._connection)
        if reason is None:
            self._reacquire_lock = lambda: advisory_lock.reacquire(self._connection, timeout)
            return advisory_lock.migration_lock(self._connection, timeout, self._report_holder)
        self._pooled = True
        self.emit(events.PoolerDetected(bundle=self._bundle.name, reason=reason))
        return pooler.pinned_lock(self._connection, timeout, self._report_holder)

    def run_until_up_to_date(self) -> None:
        """Plan and run until no migration is pending; plan again on `FencedError`."""
        plan_reported = False
        # Each FencedError means that another runner applied a statement or a file, which bounds their number.
        for _ in range(REPLANS + sum(len(migration.statements) + 1 for migration in self._bundle.migrations)):
            # Counted before planning: rows that are inserted later are detected as a concurrent change.
            rows = ledger.count(self._connection, self._bundle.ledger)
            plan = read_plan(self._connection, self._bundle)
            self.already_applied = plan.applied - len(self.finished)
            if plan.up_to_date:
                if not self._ledger_is_current():
                    self._create_tables()
                return
            if not plan_reported:
                self.emit(_plan_computed(self._bundle, plan))
                plan_reported = True
            if self._shared:
                refuse_session_dependent(plan)
            try:
                self._run_plan(plan, rows)
            except FencedError:
                continue
        raise failure.RunnerFencedError(
            f"{self._bundle.name}: other runners repeatedly changed the progress of this run",
            hint="Nothing was applied twice. Wait until they finish, then run " + command("storage status") + ".",
        )

    def _ledger_is_current(self) -> bool:
        return ledger.is_current(self._connection, self._bundle.ledger, self._bundle.migrations)

    def _create_tables(self) -> None:
        try:
            record_tables.create_tables(self._connection, self._bundle.ledger, self._bundle.migrations)
        except CREATED_CONCURRENTLY as error:
            raise FencedError from error

    def _run_plan(self, plan: model.Plan, rows: int) -> None:
        self._create_tables()
        for planned in plan.pending:
            progress.rename(self._connection, self._bundle.ledger, planned.migration, planned.progress)
        executor = Executor(
            self._bundle,
            self._connection,
            statement_lock_timeout=self._statement_lock_timeout,
            ledger_rows=rows,
            memory=self._memory,
            reacquire_lock=self._reacquire_lock,
            pooled=self._pooled,
            on_event=self.emit,
        )
        executor.run(plan)
        ledger.name_rows(self._connection, self._bundle.ledger, self._bundle.migrations)


def _plan_computed(bundle: Bundle, plan: model.Plan) -> events.PlanComputed:
    statements = sum(len(planned.migration.statements) - planned.start for planned in plan.pending)
    return events.PlanComputed(bundle=bundle.name, migrations=len(plan.pending), statements=statements)
