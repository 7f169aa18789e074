"""Runs pending migrations on one connection, group by group (`groups`); a group is mostly one statement.

Theory of operation. Plain groups are sent together in one message (`script`), as many as take about
`TARGET` seconds. A statement that changes session settings, creates temporary objects, or leaves a quote or
comment open is sent alone. After an error the open transaction of the message is rolled back; the results
received so far show which statements it committed; the SQLSTATE decides how to proceed::

    23… at COMMIT                  a deferred constraint: run it and the rest of the file as one group, once
    22012 at the compare-and-set   another runner changed the progress row: plan again
    25001, 2D000                   it cannot run in a transaction block: intent → statement → done
    55P03, 40P01, 40001            it could not get a lock: pause and retry, up to `ATTEMPTS` times
    26000 at the compare-and-set   the prepared statement is gone (DISCARD ALL): prepare it again and retry
    anything else                  the migration failed; this group is rolled back

The ledger's rows are counted before each message and after each failure. This detects drizzle-orm, which uses
neither the lock nor the progress table; the run then plans again.
"""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from itertools import accumulate
from typing import Any

import psycopg

from mosaic_gateway.hint import command
from mosaic_gateway.migrations import failure, groups, ledger, model, progress, script, session_state, wire
from mosaic_gateway.migrations.bundle import Bundle
from mosaic_gateway.migrations.event_emitter import EventEmitter
from mosaic_gateway.migrations.events import Event
from mosaic_gateway.migrations.nontransactional import runner
from mosaic_gateway.migrations.nontransactional.statements import Verdict
from mosaic_gateway.migrations.plan import PrefixChangedError, make_plan
from mosaic_gateway.migrations.pooler import refuse_session_statements
from mosaic_gateway.migrations.session_settings import local_settings
from mosaic_gateway.migrations.statement_traits import traits_of

__all__ = ["Executor", "RunMemory"]

Connection = psycopg.Connection[tuple[object, ...]]

FENCED = "22012"  # division_by_zero, in the compare-and-set
UNPREPARED = "26000"  # invalid_sql_statement_name
AT_COMMIT = {"23", "P0"}  # integrity constraint violation, PL/pgSQL error: classes that a deferred trigger raises
UNPARSABLE = {"22", "54"}  # data exception, program limit exceeded: classes raised before the text can be parsed
TARGET = 0.2  # seconds that one message may take: progress is reported, and WAL flushed, once per message
SMALLEST, LARGEST = 4, 288  # statements in one message


@dataclasses.dataclass(slots=True)
class RunMemory:
    """What a run remembers from one plan to the next.

    ``finished``: the tags whose ledger rows are committed, in order. ``deferring``: by tag, the number of a statement
    that violated a deferred constraint (`groups.divide`).
    """

    finished: list[str] = dataclasses.field(default_factory=list)
    deferring: dict[str, int] = dataclasses.field(default_factory=dict)


class Executor:
    """Runs the pending migrations of one bundle. The caller holds the lock and plans again on `FencedError`."""

    def __init__(
        self,
        bundle: Bundle,
        connection: Connection,
        *,
        statement_lock_timeout: float,
        ledger_rows: int,
        memory: RunMemory,
        reacquire_lock: Callable[[], None],
        pooled: bool,
        on_event: Callable[[Event], None],
    ) -> None:
        """Nothing is run yet.

        *ledger_rows* is the number of rows before the plan was computed. *reacquire_lock* acquires the migration lock
        again if the session lost it. *pooled*: the session is shared with other clients.
        """
        self._bundle = bundle
        self._connection = connection
        self._lock_timeout = f"{int(statement_lock_timeout * 1000)}ms"
        self._reacquire_lock = reacquire_lock
        self._pooled = pooled
        self._deferring = memory.deferring
        self._emitter = EventEmitter(bundle.name, memory.finished, on_event)
        self._record = ledger.recorder(connection, bundle.ledger)
        self._template = self._transaction_template()
        self._baseline: Mapping[str, str] = {}
        self._size = SMALLEST
        self._foreign_rows = ledger_rows - self._emitter.count

    def run(self, plan: model.Plan) -> None:
        """Run all of *plan*, then restore the session settings.

        Raises `FencedError`, `StatementFailedError`, `UndecidedError` and psycopg.OperationalError.
        """
        if self._pooled:
            refuse_session_statements(plan)
            self._run_all(plan)
            return
        settings = {**session_state.RUNNER_SETTINGS, "lock_timeout": self._lock_timeout}
        with session_state.temporary_settings(self._connection, settings):
            self._prepare()
            self._baseline = session_state.baseline(self._connection)
            try:
                self._run_all(plan)
            finally:
                self._unprepare()

    def _transaction_template(self) -> script.TransactionTemplate:
        """Return the SQL around statements. Through a pooler it prepares and sets nothing for the shared session."""
        local = ""
        if self._pooled:
            local = f"{local_settings(self._connection)}SET LOCAL synchronous_commit = off;"
            local += f"SET LOCAL lock_timeout = '{self._lock_timeout}';"
        key = progress.key_of(self._bundle.ledger)
        return script.TransactionTemplate(
            ledger_key=key,
            settings=local,
            advance=progress.advance if self._pooled else script.execute,
            record=self._record,
            capture=lambda item: session_state.capture_sql(item, key, self._baseline),
        )

    def _run_all(self, plan: model.Plan) -> None:
        plain: list[script.GroupTask] = []
        for planned in plan.pending:
            if self._is_plain(planned):
                plain += self._tasks(planned)
                if sum(map(_statements, plain)) >= self._size:
                    self._run_plain(plain)
                    plain = []
                continue
            self._run_plain(plain)
            plain = []
            self._run_individually(planned)
        self._run_plain(plain)

    @staticmethod
    def _is_plain(planned: model.PlannedMigration) -> bool:
        if planned.start_over or not planned.migration.statements[planned.start :]:
            return False
        if planned.progress is not None and (planned.progress.intent is not None or planned.progress.session):
            return False
        return all(traits_of(statement.sql).plain for statement in planned.migration.statements)

    def _tasks(self, planned: model.PlannedMigration) -> Iterator[script.GroupTask]:
        return script.remaining_tasks(planned, deferring=self._deferring.get(planned.migration.tag))

    def _run_plain(self, work: list[script.GroupTask]) -> None:
        """Run plain groups in messages whose size adapts to the speed of the previous ones."""
        while work:
            self._fence()
            sizes = accumulate(map(_statements, work))
            count = sum(size <= self._size for size in sizes) or 1
            batch, work = work[:count], work[count:]
            started = time.perf_counter()
            self._run_batch(batch)
            elapsed = time.perf_counter() - started
            if elapsed < TARGET / 2:
                self._size = min(self._size * 2, LARGEST)
            elif elapsed > TARGET * 2:
                self._size = max(self._size // 2, SMALLEST)

    def _fence(self) -> None:
        """Raise `FencedError` if another program, such as drizzle-orm, wrote to the ledger during this run."""
        rows = ledger.count(self._connection, self._bundle.ledger)
        if rows != self._foreign_rows + self._emitter.count:
            raise progress.FencedError

    def _run_batch(self, batch: Sequence[script.GroupTask]) -> None:
        remaining = list(batch)
        attempt = 0
        while remaining:
            sent, reply = self._send(remaining)
            done = self._emitter.replied(remaining, reply)
            remaining = remaining[done:]
            if reply.error is None:
                return
            attempt = attempt + 1 if done == 0 else 1
            remaining = self._handle_error(remaining, sent, reply, done, attempt)

    def _send(self, work: Sequence[script.GroupTask]) -> tuple[script.GroupBatch, wire.ServerReply]:
        self._emitter.sent(work[0], sum(map(_statements, work)))
        sent = script.compose(work, self._template)
        try:
            reply = wire.send(self._connection, sent.text)
        finally:
            session_state.leave_transaction(self._connection)
        return sent, reply

    def _handle_error(
        self,
        remaining: list[script.GroupTask],
        sent: script.GroupBatch,
        reply: wire.ServerReply,
        done: int,
        attempt: int,
    ) -> list[script.GroupTask]:
        """Handle the failure of the first of *remaining*; return the statements that are left to run."""
        error = reply.error
        assert error is not None  # noqa: S101 - only called with one
        in_step = len(reply.steps) == done  # the compare-and-set itself failed, or the message as a whole
        if in_step and error.sqlstate == FENCED:
            raise progress.FencedError
        if in_step and error.sqlstate == UNPREPARED and attempt < failure.ATTEMPTS:
            self._prepare()
            return remaining
        if in_step and done == 0 and len(remaining) > 1:
            # The server rejected the message as a whole before running any of it: send each statement alone.
            for item in remaining:
                self._run_batch([item])
            return []
        if error.sqlstate in failure.NOT_IN_TRANSACTION and not in_step and remaining[0].group.cause is None:
            self._run_outside(remaining[0])
            return remaining[1:]
        if error.sqlstate in failure.RETRIED and attempt < failure.ATTEMPTS:
            self._emitter.retried(remaining[0], error.sqlstate, attempt)
            failure.pause(attempt)
            return remaining
        place = None if error.position is None else sent.locate(error.position)
        in_record = in_step or (remaining[0].last and reply.since_step == 0)
        if in_record and place is None and error.sqlstate[:2] not in UNPARSABLE:
            raise self._unrecorded(error)
        statements = remaining[0].group.statements
        # The index counts the statements of the message, of which groups at its beginning are done.
        index = -1 if place is None else place[0] - (len(sent.starts) - sum(map(_statements, remaining)))
        if place is not None and 0 <= index < len(statements):
            raise self._failed(remaining[0], statements[index], error, place[1])
        running = remaining[0].statement_of(reply.since_step)
        if running is None and not in_step:
            self._defer(remaining[0], error)
        deferred = remaining[0].group.cause is not None and remaining[0].group.cause.name == groups.DEFERRED
        raise self._failed(remaining[0], running or statements[0 if in_step or deferred else -1], error, None)

    def _defer(self, item: script.GroupTask, error: wire.ServerError) -> None:
        """Have the rest of the file run as one group if *item* failed only when it was committed.

        Raises `FencedError` then: the plan is computed again.
        """
        statements = item.migration.statements
        if item.group.cause is not None or item.last or error.sqlstate[:2] not in AT_COMMIT:
            return
        divided = groups.divide(statements, deferring=item.group.first)
        group = next(group for group in divided if group.last >= item.group.first)
        if len(group.statements) > 1 and groups.conflict_in(group, followed=group is not divided[-1]) is None:
            self._deferring[item.migration.tag] = item.group.first
            raise progress.FencedError

    def _failed(
        self,
        item: script.GroupTask,
        statement: model.Statement,
        error: wire.ServerError,
        position: int | None,
        *,
        outside: bool = False,
    ) -> failure.StatementFailedError:
        described = failure.describe(item.migration, item.group, statement, error, position, outside=outside)
        with session_state.session_user_transaction(self._connection):
            self._fence()  # the statement may have failed because another program already ran it
            progress.note_failure(self._connection, self._bundle.ledger, item.migration, described)
        return failure.StatementFailedError(described, self._emitter.finished)

    def _unrecorded(self, error: wire.ServerError) -> failure.LedgerAccessError:
        return failure.LedgerAccessError(
            f"{self._bundle.name}: the record of the applied migrations cannot be written: "
            f"{error.message} (SQLSTATE {error.sqlstate})",
            hint="The statement was not run, or was rolled back. Make sure that the database user may write to the "
            f"ledger {self._bundle.ledger} and to the schema mosaic, then run " + command("storage migrate") + ".",
            details={"applied": list(self._emitter.finished), "sqlstate": error.sqlstate},
        )

    # Migrations with statements that are not plain: one statement per message, and a clean session for each file.

    def _run_individually(self, planned: model.PlannedMigration) -> None:
        self._fence()
        try:
            rest = self._resume(planned)
            if rest is not None and not rest.migration.statements[rest.start :]:
                self._record_alone(rest)
            for item in self._tasks(rest) if rest is not None else ():
                role = self._role() if item.captures else None
                self._run_batch([item if role is None else dataclasses.replace(item, role=role)])
                if item.captures:
                    self._restore_runner_state()
        finally:
            if not self._pooled and not self._connection.closed and not self._connection.broken:
                session_state.clean(self._connection, self._baseline)
                self._prepare()

    def _restore_runner_state(self) -> None:
        """Restore the runner's own settings and lock, which RESET ALL or DISCARD ALL may have removed."""
        if not self._pooled:
            session_state.restore_reset(self._connection, self._baseline)
        self._reacquire_lock()

    def _resume(self, planned: model.PlannedMigration) -> model.PlannedMigration | None:
        """Restore the state in which an earlier run stopped; return what is left to run, None if nothing is."""
        row = planned.progress
        if row is None:
            return planned
        if planned.start_over:
            progress.start_over(self._connection, self._bundle.ledger, planned, row.applied)
            if planned.start == 0:
                return planned
        session_state.restore(self._connection, row.session)
        return planned if planned.start_over or row.intent is None else self._recover(planned, row)

    def _role(self) -> str | None:
        row = self._connection.execute("SELECT current_setting('role')").fetchone()
        return None if row is None or row[0] == "none" else str(row[0])

    def _record_alone(self, planned: model.PlannedMigration) -> None:
        """Write the ledger row of a migration that has no statements left to run, if it is still missing."""
        migration = planned.migration
        with session_state.session_user_transaction(self._connection):
            progress.lock_row(self._connection, self._bundle.ledger, migration)
            if migration.tag not in self._pending_tags():
                raise progress.FencedError
            self._connection.execute(f"SET LOCAL synchronous_commit = on; {self._record(migration)}".encode())
        self._emitter.recorded(migration.tag)

    def _pending_tags(self) -> set[str]:
        tags = [migration.tag for migration in self._bundle.migrations]
        rows = progress.read(self._connection, self._bundle.ledger, tags)
        state = model.LedgerState(applied=ledger.read(self._connection, self._bundle.ledger), progress=rows)
        return {planned.migration.tag for planned in make_plan(self._bundle, state).pending}

    # Nontransactional statements.

    def _run_outside(self, item: script.GroupTask) -> None:
        self._run_alone(item, runner.record_intent(self._connection, self._bundle.ledger, item))

    def _run_alone(self, item: script.GroupTask, note: Mapping[str, Any]) -> None:
        """Run a statement whose intent is recorded, and record it as applied."""
        self._emitter.sent(item, 1)
        started = time.perf_counter()
        attempt = 0
        while (error := runner.run(self._connection, item.text, pooled=self._pooled)) is not None:
            attempt += 1
            if error.sqlstate in failure.RETRIED and attempt < failure.ATTEMPTS:
                self._emitter.retried(item, error.sqlstate, attempt)
                failure.pause(attempt)
                result = runner.probe(self._connection, item.text, note)
                if result.verdict is not Verdict.UNDECIDED:
                    runner.repair(self._connection, result, pooled=self._pooled)
                    if result.verdict is Verdict.APPLIED:
                        break
                    continue
            runner.abandon(self._connection, self._bundle.ledger, item)
            raise self._failed(item, item.statement, error, error.position, outside=True)
        seconds = time.perf_counter() - started
        if item.captures:  # before the record, which a time-out of the role would end
            self._restore_runner_state()
        self._finish(item, seconds)

    def _finish(self, item: script.GroupTask, seconds: float) -> None:
        runner.finish(self._connection, self._bundle.ledger, item, self._record(item.migration))
        self._emitter.applied(item, seconds)

    def _recover(self, planned: model.PlannedMigration, row: model.ProgressRow) -> model.PlannedMigration | None:
        """Determine whether a statement with a recorded intent took effect, and finish it or run it again.

        Returns what is left to run, None if nothing is.
        """
        item = next(script.remaining_tasks(planned), None)
        sql = str(row.intent_note.get("sql") or (item.text if item is not None else ""))
        result = runner.probe(self._connection, sql, row.intent_note)
        number = planned.start + 1
        if result.verdict is Verdict.UNDECIDED:
            line = 1 if item is None else item.statement.line
            raise failure.UndecidedError(planned.migration, model.Statement(number=number, line=line, sql=sql))
        self._emitter.recovered(planned, result)
        runner.repair(self._connection, result, pooled=self._pooled)
        if item is None or item.group.cause is not None or item.text != sql:
            return self._without_intent(planned, sql, result.verdict)
        if result.verdict is Verdict.APPLIED:
            self._finish(item, 0.0)
        else:
            self._run_alone(item, row.intent_note)
        return None if item.last else dataclasses.replace(planned, start=number)

    def _without_intent(self, planned: model.PlannedMigration, sql: str, verdict: Verdict) -> model.PlannedMigration:
        """Clear the intent of a statement that was edited since; refuse if its previous text had taken effect."""
        migration, number = planned.migration, planned.start + 1
        if verdict is Verdict.APPLIED:
            raise PrefixChangedError(
                f"statement {number} of {migration.tag} was changed after it had taken effect: {' '.join(sql.split())}",
                hint="Restore the original statement; the statements after it may be edited.",
                details={"tag": migration.tag, "applied": number, "total": len(migration.statements)},
            )
        with session_state.session_user_transaction(self._connection):
            progress.clear_intent(self._connection, self._bundle.ledger, migration, number)
        return planned

    def _prepare(self) -> None:
        with suppress(psycopg.errors.DuplicatePreparedStatement):
            self._connection.execute(f"{script.PREPARE}{progress.ADVANCE}".encode())

    def _unprepare(self) -> None:
        session_state.leave_transaction(self._connection)
        if not self._connection.broken:
            with suppress(psycopg.errors.InvalidSqlStatementName):
                self._connection.execute(f"DEALLOCATE {script.PREPARED}".encode())


def _statements(item: script.GroupTask) -> int:
    return len(item.group.statements)
