"""Runs pending migrations on one connection, statement by statement, as fast as exactness allows.

Theory of operation. Plain statements travel together in one message (`script`), as many as take about
`TARGET` seconds. Whatever needs care travels alone: a statement that sets something for its session,
makes temporary objects, or does not end outside of quotes. After an error the message's transaction is
rolled back, what it committed before is known from its answers, and the failing statement is judged by
its SQLSTATE::

    22012 at the compare-and-set   somebody else went on: plan again
    25001                          it cannot run in a transaction: intent → statement → done
    55P03, 40P01, 40001            a lock was not to be had: pause and try again, a few times
    26000 at the compare-and-set   the prepared statement is gone (DISCARD ALL): prepare and try again
    anything else                  the migration failed; nothing of this statement remains

Before each message and after each failure the ledger's rows are counted: a rival that knows neither lock nor
progress, as drizzle-orm does not, shows there, and the run plans again.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from typing import Any

import psycopg

from mosaic_gateway.migrations import ledger, progress, session_state
from mosaic_gateway.migrations.bundle import Bundle
from mosaic_gateway.migrations.event_emitter import EventEmitter
from mosaic_gateway.migrations.events import Event
from mosaic_gateway.migrations.failure import (
    ChunkRefusedError,
    LedgerAccessError,
    StatementFailedError,
    UndecidedError,
    describe,
)
from mosaic_gateway.migrations.model import LedgerState, Plan, PlannedMigration, ProgressRow, Statement
from mosaic_gateway.migrations.nontransactional import runner
from mosaic_gateway.migrations.nontransactional.statements import Verdict
from mosaic_gateway.migrations.plan import PrefixChangedError, make_plan
from mosaic_gateway.migrations.pooler import refuse_session_statements
from mosaic_gateway.migrations.progress import ADVANCE, FencedError
from mosaic_gateway.migrations.retry import ATTEMPTS, RETRIED, pause
from mosaic_gateway.migrations.script import (
    PREPARE,
    PREPARED,
    Phrases,
    StatementBatch,
    StatementTask,
    compose,
    execute,
    works_of,
)
from mosaic_gateway.migrations.statement_traits import traits_of
from mosaic_gateway.migrations.wire import ServerError, ServerReply, send

__all__ = ["Executor", "FencedError"]

Connection = psycopg.Connection[tuple[object, ...]]

FENCED = "22012"  # division_by_zero, in the compare-and-set
UNPREPARED = "26000"  # invalid_sql_statement_name
NOT_IN_TRANSACTION = "25001"  # active_sql_transaction
OF_THE_TEXT = {"22", "54"}  # data exception, program limit exceeded: a text that cannot even be read
TARGET = 0.2  # seconds that one message may take: progress is told, and the disk flushed, once a message
SMALLEST, LARGEST = 4, 288  # statements in one message


class Executor:
    """Runs the pending migrations of one bundle; the caller holds the lock and plans again when told so."""

    def __init__(
        self,
        bundle: Bundle,
        connection: Connection,
        *,
        statement_lock_timeout: float,
        ledger_rows: int,
        finished: list[str],
        hold: Callable[[], None],
        pooled: bool,
        on_event: Callable[[Event], None],
    ) -> None:
        """*finished* is the caller's list of tags, added to as each gets its ledger row.

        *ledger_rows* is the number of rows before the plan was made. *hold* takes the lock again if it was lost.
        *pooled*: the session is shared with other clients.
        """
        self._bundle = bundle
        self._connection = connection
        self._lock_timeout = f"{int(statement_lock_timeout * 1000)}ms"
        self._hold = hold
        self._pooled = pooled
        self._emitter = EventEmitter(bundle.name, finished, on_event)
        self._record = ledger.recorder(connection, bundle.ledger)
        self._phrases = self._make_phrases()
        self._baseline: Mapping[str, str] = {}
        self._size = SMALLEST
        self._foreign_rows = ledger_rows - self._emitter.count

    def run(self, plan: Plan) -> None:
        """Run *plan* to its end, and leave the session as it was.

        Raises `FencedError`, `StatementFailedError`, `UndecidedError`, `ChunkRefusedError` and
        psycopg.OperationalError.
        """
        self._refuse(plan)
        if self._pooled:
            refuse_session_statements(plan)
            self._run_all(plan)
            return
        settings = {**session_state.OURS, "lock_timeout": self._lock_timeout}
        with session_state.adopted_session(self._connection, settings):
            self._prepare()
            self._baseline = session_state.baseline(self._connection)
            try:
                self._run_all(plan)
            finally:
                self._unprepare()

    def _make_phrases(self) -> Phrases:
        """What is prepared or set in a pooler's session would reach its other clients: then it is sent each time."""
        local = f"SET LOCAL synchronous_commit = off; SET LOCAL lock_timeout = '{self._lock_timeout}';"
        key = progress.key_of(self._bundle.ledger)
        return Phrases(
            ledger_key=key,
            settings=local if self._pooled else "",
            advance=progress.advance if self._pooled else execute,
            record=self._record,
            capture=lambda item: session_state.capture_sql(item, key, self._baseline),
        )

    def _run_all(self, plan: Plan) -> None:
        plain: list[StatementTask] = []
        for planned in plan.pending:
            if self._is_plain(planned):
                plain += works_of(planned)
                if len(plain) >= self._size:
                    self._run_plain(plain)
                    plain = []
                continue
            self._run_plain(plain)
            plain = []
            self._run_with_care(planned)
        self._run_plain(plain)

    def _refuse(self, plan: Plan) -> None:
        for planned in plan.pending:
            for statement in planned.migration.statements[planned.start :]:
                control = traits_of(statement.sql).control
                if control is not None:
                    raise ChunkRefusedError(planned.migration, statement, control)

    @staticmethod
    def _is_plain(planned: PlannedMigration) -> bool:
        if not planned.migration.statements[planned.start :]:
            return False
        if planned.progress is not None and (planned.progress.intent is not None or planned.progress.session):
            return False
        return all(traits_of(statement.sql).plain for statement in planned.migration.statements)

    def _run_plain(self, work: list[StatementTask]) -> None:
        """Run plain statements, as many in a message as the last ones' speed suggests."""
        while work:
            self._fence()
            batch, work = work[: self._size], work[self._size :]
            began = time.perf_counter()
            self._run_batch(batch)
            took = time.perf_counter() - began
            if took < TARGET / 2:
                self._size = min(self._size * 2, LARGEST)
            elif took > TARGET * 2:
                self._size = max(self._size // 2, SMALLEST)

    def _fence(self) -> None:
        """Raise `FencedError` if somebody else wrote to the ledger: drizzle-orm knows neither lock nor progress."""
        rows = ledger.count(self._connection, self._bundle.ledger)
        if rows != self._foreign_rows + self._emitter.count:
            raise FencedError

    def _run_batch(self, batch: Sequence[StatementTask]) -> None:
        remaining = list(batch)
        attempt = 0
        while remaining:
            script, answer = self._send(remaining)
            done = self._emitter.answered(remaining, answer)
            remaining = remaining[done:]
            if answer.error is None:
                return
            attempt = attempt + 1 if done == 0 else 1
            remaining = self._after(remaining, script, answer, done, attempt)

    def _send(self, work: Sequence[StatementTask]) -> tuple[StatementBatch, ServerReply]:
        self._emitter.sent(work[0], len(work))
        script = compose(work, self._phrases)
        try:
            answer = send(self._connection, script.text)
        finally:
            session_state.leave_transaction(self._connection)
        return script, answer

    def _after(
        self, remaining: list[StatementTask], script: StatementBatch, answer: ServerReply, done: int, attempt: int
    ) -> list[StatementTask]:
        """Decide what follows from a failure of the first of *remaining*; return what is left to run."""
        error = answer.error
        assert error is not None  # noqa: S101 - only called with one
        in_step = len(answer.steps) == done  # the compare-and-set itself failed, or the message as a whole
        if in_step and error.sqlstate == FENCED:
            raise FencedError
        if in_step and error.sqlstate == UNPREPARED and attempt < ATTEMPTS:
            self._prepare()
            return remaining
        if in_step and done == 0 and len(remaining) > 1:
            # The text as a whole was refused, before anything ran: find out whose fault it is.
            for item in remaining:
                self._run_batch([item])
            return []
        if error.sqlstate == NOT_IN_TRANSACTION and not in_step:
            self._run_outside(remaining[0])
            return remaining[1:]
        if error.sqlstate in RETRIED and attempt < ATTEMPTS:
            self._emitter.retried(remaining[0], error.sqlstate, attempt)
            pause(attempt)
            return remaining
        place = None if error.position is None else script.locate(error.position)
        ours = in_step or (remaining[0].last and answer.since_step == 0)
        if ours and place is None and error.sqlstate[:2] not in OF_THE_TEXT:
            raise self._unrecorded(error)
        raise self._failed(remaining[0], error, place[1] if place is not None and place[0] == done else None)

    def _failed(
        self, item: StatementTask, error: ServerError, position: int | None, *, outside: bool = False
    ) -> StatementFailedError:
        failure = describe(item.migration, item.statement, error, position, outside=outside)
        with session_state.as_ourselves(self._connection):
            self._fence()  # it may have failed because a rival did it already
            progress.note_failure(self._connection, self._bundle.ledger, item.migration, failure)
        return StatementFailedError(failure, self._emitter.finished)

    def _unrecorded(self, error: ServerError) -> LedgerAccessError:
        return LedgerAccessError(
            f"{self._bundle.name}: the record of the applied migrations cannot be written: "
            f"{error.message} (SQLSTATE {error.sqlstate})",
            hint="The statement was not run, or rolled back. Make sure that the database user may write to the "
            "schemas drizzle and mosaic, then run mosaic-gateway storage migrate.",
            details={"applied": list(self._emitter.finished), "sqlstate": error.sqlstate},
        )

    # Migrations that need care: one statement a message, in a session of their own.

    def _run_with_care(self, planned: PlannedMigration) -> None:
        self._fence()
        try:
            rest = self._resume(planned)
            if rest is not None and not rest.migration.statements[rest.start :]:
                self._record_alone(rest)
            for item in works_of(rest) if rest is not None else ():
                role = self._role() if item.captures else None
                self._run_batch([item if role is None else replace(item, role=role)])
                if item.captures:
                    self._claim()
        finally:
            if not self._pooled and not self._connection.closed and not self._connection.broken:
                session_state.clean(self._connection, self._baseline)
                self._prepare()

    def _claim(self) -> None:
        """Take back what RESET ALL or DISCARD ALL took from the runner itself: settings, and the lock."""
        for name, value in session_state.OURS.items():
            self._connection.execute("SELECT set_config(%s, %s, false)", (name, value))
        self._hold()

    def _resume(self, planned: PlannedMigration) -> PlannedMigration | None:
        """Go back to where an earlier run stopped; return what is left to do, None when nothing is."""
        row = planned.progress
        if row is None:
            return planned
        if planned.start_over:
            progress.forget(self._connection, self._bundle.ledger, planned.migration, row.applied)
            return planned
        session_state.restore(self._connection, row.session)
        return planned if row.intent is None else self._recover(planned, row)

    def _role(self) -> str | None:
        row = self._connection.execute("SELECT current_setting('role')").fetchone()
        return None if row is None or row[0] == "none" else str(row[0])

    def _record_alone(self, planned: PlannedMigration) -> None:
        """Write the ledger row of a migration without further statements, if it is still missing."""
        migration = planned.migration
        with session_state.as_ourselves(self._connection):
            progress.hold(self._connection, self._bundle.ledger, migration)
            if migration.tag not in self._pending_tags():
                raise FencedError
            self._connection.execute(f"SET LOCAL synchronous_commit = on; {self._record(migration)}".encode())
        self._emitter.recorded(migration.tag)

    def _pending_tags(self) -> set[str]:
        tags = [migration.tag for migration in self._bundle.migrations]
        rows = progress.read(self._connection, self._bundle.ledger, tags)
        state = LedgerState(applied=ledger.read(self._connection, self._bundle.ledger), progress=rows)
        return {planned.migration.tag for planned in make_plan(self._bundle, state).pending}

    # Statements outside of transactions.

    def _run_outside(self, item: StatementTask) -> None:
        self._run_alone(item, runner.intend(self._connection, self._bundle.ledger, item))

    def _run_alone(self, item: StatementTask, note: Mapping[str, Any]) -> None:
        """Run a statement whose intent is written, and record it as applied."""
        self._emitter.sent(item, 1)
        began = time.perf_counter()
        attempt = 0
        while (error := runner.run(self._connection, item.statement.sql, pooled=self._pooled)) is not None:
            attempt += 1
            if error.sqlstate in RETRIED and attempt < ATTEMPTS:
                self._emitter.retried(item, error.sqlstate, attempt)
                pause(attempt)
                finding = runner.look(self._connection, item.statement.sql, note)
                if finding.verdict is not Verdict.UNDECIDED:
                    runner.repair(self._connection, finding, pooled=self._pooled)
                    if finding.verdict is Verdict.APPLIED:
                        break
                    continue
            runner.give_up(self._connection, self._bundle.ledger, item)
            raise self._failed(item, error, error.position, outside=True)
        self._finish(item, time.perf_counter() - began)

    def _finish(self, item: StatementTask, seconds: float) -> None:
        runner.finish(self._connection, self._bundle.ledger, item, self._record(item.migration))
        self._emitter.applied(item, seconds)

    def _recover(self, planned: PlannedMigration, row: ProgressRow) -> PlannedMigration | None:
        """Find out what became of a statement whose intent was found, and finish it or let it run again.

        Returns what is left to do, None when nothing is.
        """
        item = next(works_of(planned), None)
        sql = str(row.intent_note.get("sql") or (item.statement.sql if item is not None else ""))
        finding = runner.look(self._connection, sql, row.intent_note)
        number = planned.start + 1
        if finding.verdict is Verdict.UNDECIDED:
            line = 1 if item is None else item.statement.line
            raise UndecidedError(planned.migration, Statement(number=number, line=line, sql=sql))
        self._emitter.recovered(planned, finding)
        runner.repair(self._connection, finding, pooled=self._pooled)
        if item is None or item.statement.sql != sql:
            return self._without_intent(planned, sql, finding.verdict)
        if finding.verdict is Verdict.APPLIED:
            self._finish(item, 0.0)
        else:
            self._run_alone(item, row.intent_note)
        return None if item.last else replace(planned, start=number)

    def _without_intent(self, planned: PlannedMigration, sql: str, verdict: Verdict) -> PlannedMigration:
        """Drop the intent of a statement that was edited since; refuse if it had taken effect as it was."""
        migration, number = planned.migration, planned.start + 1
        if verdict is Verdict.APPLIED:
            raise PrefixChangedError(
                f"statement {number} of {migration.tag} was changed after it had taken effect: {' '.join(sql.split())}",
                hint="Restore the statement as it was; the rest may be edited.",
                details={"tag": migration.tag, "applied": number, "total": len(migration.statements)},
            )
        with session_state.as_ourselves(self._connection):
            progress.forget_intent(self._connection, self._bundle.ledger, migration, number)
        return planned

    def _prepare(self) -> None:
        with suppress(psycopg.errors.DuplicatePreparedStatement):
            self._connection.execute(f"{PREPARE}{ADVANCE}".encode())

    def _unprepare(self) -> None:
        session_state.leave_transaction(self._connection)
        if not self._connection.broken:
            with suppress(psycopg.errors.InvalidSqlStatementName):
                self._connection.execute(f"DEALLOCATE {PREPARED}".encode())
