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
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace

import psycopg

from mosaic_gateway.migrations import ledger, outside, progress, session_state
from mosaic_gateway.migrations.bundle import Bundle
from mosaic_gateway.migrations.events import (
    Event,
    MigrationApplied,
    StatementApplied,
    StatementRecovered,
    StatementRetried,
)
from mosaic_gateway.migrations.failure import ChunkRefusedError, StatementFailedError, UndecidedError, describe
from mosaic_gateway.migrations.model import LedgerState, Plan, PlannedMigration
from mosaic_gateway.migrations.outside import Outside, Verdict
from mosaic_gateway.migrations.parse import prefix_hashes, statement_digests
from mosaic_gateway.migrations.plan import make_plan
from mosaic_gateway.migrations.progress import ADVANCE
from mosaic_gateway.migrations.script import PREPARE, Script, Work, compose
from mosaic_gateway.migrations.sending import Answer, ServerError, send
from mosaic_gateway.migrations.traits import traits_of

__all__ = ["Executor", "FencedError"]

Connection = psycopg.Connection[tuple[object, ...]]

FENCED = "22012"  # division_by_zero, in the compare-and-set
UNPREPARED = "26000"  # invalid_sql_statement_name
NOT_IN_TRANSACTION = "25001"  # active_sql_transaction
RETRIED = {"55P03", "40P01", "40001"}  # lock_not_available, deadlock_detected, serialization_failure
ATTEMPTS = 6
FIRST_PAUSE, LONGEST_PAUSE = 0.1, 3.0  # seconds
TARGET = 0.1  # seconds that one message may take
SMALLEST, LARGEST = 4, 96  # statements in one message


class FencedError(Exception):
    """Another runner changed the progress: plan again."""


class Executor:
    """Runs the pending migrations of one bundle; the caller holds the lock and plans again when told so."""

    def __init__(
        self,
        bundle: Bundle,
        connection: Connection,
        *,
        statement_lock_timeout: float,
        finished: list[str],
        on_event: Callable[[Event], None],
    ) -> None:
        """*finished* is the caller's list of tags, added to as each gets its ledger row."""
        self._bundle = bundle
        self._connection = connection
        self._lock_timeout = f"{int(statement_lock_timeout * 1000)}ms"
        self._on_event = on_event
        self._record = ledger.recorder(connection, bundle.ledger)
        self._key = progress.key_of(bundle.ledger)
        self._baseline: Mapping[str, str] = {}
        self._size = SMALLEST
        self._finished = finished

    def run(self, plan: Plan) -> None:
        """Run *plan* to its end.

        Raises `FencedError`, `StatementFailedError`, `UndecidedError`, `ChunkRefusedError` and
        psycopg.OperationalError.
        """
        self._refuse(plan)
        self._connection.prepare_threshold = None  # psycopg's own would be lost with DISCARD and DEALLOCATE
        for name, value in {**session_state.OURS, "lock_timeout": self._lock_timeout}.items():
            self._connection.execute("SELECT set_config(%s, %s, false)", (name, value))
        self._prepare()
        self._baseline = session_state.baseline(self._connection)
        plain: list[Work] = []
        for planned in plan.pending:
            if self._is_plain(planned):
                plain += self._work_of(planned, None)
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

    @staticmethod
    def _work_of(planned: PlannedMigration, role: str | None) -> Iterator[Work]:
        migration = planned.migration
        hashes = prefix_hashes(migration.statements)
        digests = statement_digests(migration.statements)
        captures = False
        for number, statement in enumerate(migration.statements):
            captures = captures or traits_of(statement.sql).sets_session
            if number >= planned.start:
                yield Work(
                    migration=migration,
                    statement=statement,
                    before=hashes[number],
                    after=hashes[number + 1],
                    digests=digests,
                    captures=captures,
                    role=role,
                )

    def _run_plain(self, work: list[Work]) -> None:
        """Run plain statements, as many in a message as the last ones' speed suggests."""
        while work:
            batch, work = work[: self._size], work[self._size :]
            began = time.perf_counter()
            self._run_batch(batch)
            took = time.perf_counter() - began
            if took < TARGET / 2:
                self._size = min(self._size * 2, LARGEST)
            elif took > TARGET * 2:
                self._size = max(self._size // 2, SMALLEST)

    def _run_batch(self, batch: Sequence[Work]) -> None:
        remaining = list(batch)
        attempt = 0
        while remaining:
            script, answer = self._send(remaining)
            done = self._report(remaining, answer)
            remaining = remaining[done:]
            if answer.error is None:
                return
            attempt = attempt + 1 if done == 0 else 1
            remaining = self._after(remaining, script, answer, done, attempt)

    def _send(self, work: Sequence[Work]) -> tuple[Script, Answer]:
        script = compose(work, self._key, self._record, self._capture)
        answer = send(self._connection, script.text)
        if self._in_transaction():
            self._connection.execute("ROLLBACK")
        return script, answer

    def _in_transaction(self) -> bool:
        return self._connection.info.transaction_status is not psycopg.pq.TransactionStatus.IDLE

    def _capture(self, item: Work) -> str:
        return session_state.capture_sql(item, self._key, self._baseline)

    def _report(self, work: Sequence[Work], answer: Answer) -> int:
        """Tell what was committed and return how many statements that are."""
        done = answer.commits
        ends = (*answer.steps[1:], time.time())
        for item, began, ended in zip(work[:done], answer.steps, ends, strict=False):
            self._applied(item, max(ended - began, 0.0))
        return done

    def _applied(self, item: Work, seconds: float) -> None:
        migration = item.migration
        self._on_event(
            StatementApplied(
                bundle=self._bundle.name,
                tag=migration.tag,
                number=item.statement.number,
                total=len(migration.statements),
                seconds=round(seconds, 6),
            )
        )
        if item.last:
            self._finished.append(migration.tag)
            self._on_event(MigrationApplied(bundle=self._bundle.name, tag=migration.tag))

    def _after(self, remaining: list[Work], script: Script, answer: Answer, done: int, attempt: int) -> list[Work]:
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
            self._pause(remaining[0], error, attempt)
            return remaining
        raise self._failed(remaining[0], error, script, done)

    def _pause(self, item: Work, error: ServerError, attempt: int) -> None:
        self._on_event(
            StatementRetried(
                bundle=self._bundle.name,
                tag=item.migration.tag,
                number=item.statement.number,
                attempt=attempt,
                sqlstate=error.sqlstate,
            )
        )
        pause = min(FIRST_PAUSE * 2**attempt, LONGEST_PAUSE)
        time.sleep(pause * random.uniform(0.5, 1.0))  # noqa: S311 - jitter, not a secret

    def _failed(self, item: Work, error: ServerError, script: Script | None, index: int) -> StatementFailedError:
        position = error.position
        if script is not None and position is not None:
            where, position = script.locate(position)
            position = position if where == index else None
        failure = describe(item.migration, item.statement, error, position)
        with self._as_ourselves():
            progress.note_failure(self._connection, self._bundle.ledger, item.migration, failure)
        return StatementFailedError(failure, tuple(self._finished))

    # Migrations that need care: one statement a message, in a session of their own.

    def _run_with_care(self, planned: PlannedMigration) -> None:
        migration = planned.migration
        if planned.progress is not None and planned.start_over:
            progress.forget(self._connection, self._bundle.ledger, migration, planned.progress.applied)
        elif planned.progress is not None:
            session_state.restore(self._connection, planned.progress.session)
            if planned.progress.intent is not None:
                planned = self._recover(planned)
        if not migration.statements[planned.start :]:
            self._record_alone(planned)
            return
        try:
            for item in self._work_of(planned, None):
                role = self._role() if item.captures else None
                self._run_batch([item if role is None else replace(item, role=role)])
        finally:
            if not self._connection.closed and not self._connection.broken:
                session_state.clean(self._connection, self._baseline)
                self._prepare()

    def _role(self) -> str | None:
        row = self._connection.execute("SELECT current_setting('role')").fetchone()
        return None if row is None or row[0] == "none" else str(row[0])

    def _record_alone(self, planned: PlannedMigration) -> None:
        """Write the ledger row of a migration without further statements, if it is still missing."""
        migration = planned.migration
        with self._connection.transaction():
            progress.hold(self._connection, self._bundle.ledger, migration)
            if migration.tag not in self._pending_tags():
                raise FencedError
            self._connection.execute(f"SET LOCAL synchronous_commit = on; {self._record(migration)}".encode())
        self._finished.append(migration.tag)
        self._on_event(MigrationApplied(bundle=self._bundle.name, tag=migration.tag))

    def _pending_tags(self) -> set[str]:
        tags = [migration.tag for migration in self._bundle.migrations]
        rows = progress.read(self._connection, self._bundle.ledger, tags)
        state = LedgerState(applied=ledger.read(self._connection, self._bundle.ledger), progress=rows)
        return {planned.migration.tag for planned in make_plan(self._bundle, state).pending}

    # Statements outside of transactions.

    def _run_outside(self, item: Work) -> None:
        statement = outside.classify(item.statement.sql)
        note = outside.observe(self._connection, statement)
        with self._as_ourselves():
            if not progress.note_intent(
                self._connection, self._bundle.ledger, item.migration, item.statement.number, note
            ):
                raise FencedError
        self._run_alone(item, statement)

    def _run_alone(self, item: Work, statement: Outside) -> None:
        began = time.perf_counter()
        # A time limit on a lock would leave an invalid index; the migration lock keeps rivals away.
        self._connection.execute("SET lock_timeout = 0")
        try:
            answer = send(self._connection, item.statement.sql)
        finally:
            if not self._connection.broken:
                self._connection.execute("SELECT set_config('lock_timeout', %s, false)", (self._lock_timeout,))
        if answer.error is not None:
            if statement.kind is not outside.Kind.CREATE_INDEX:
                with self._as_ourselves():
                    progress.forget_intent(self._connection, self._bundle.ledger, item.migration, item.statement.number)
            raise self._failed(item, answer.error, None, 0)
        self._finish(item, time.perf_counter() - began)
        if item.statement.sql.lower().lstrip().startswith("discard"):
            self._prepare()

    @contextmanager
    def _as_ourselves(self) -> Iterator[None]:
        """A transaction for our records, without the role that the migration may have taken on."""
        with self._connection.transaction():
            self._connection.execute("SET LOCAL ROLE NONE")
            yield

    def _finish(self, item: Work, seconds: float) -> None:
        with self._as_ourselves():
            if not progress.finish_intent(self._connection, self._bundle.ledger, item.migration, item.statement.number):
                raise FencedError
            if item.last:
                self._connection.execute(f"SET LOCAL synchronous_commit = on; {self._record(item.migration)}".encode())
        self._applied(item, seconds)

    def _recover(self, planned: PlannedMigration) -> PlannedMigration:
        """Find out what became of a statement whose intent was found, and finish it or let it run again."""
        row = planned.progress
        assert row is not None  # noqa: S101 - only called with one
        assert row.intent is not None  # noqa: S101 - as above
        item = next(iter(self._work_of(planned, None)))
        statement = outside.classify(item.statement.sql)
        finding = outside.probe(self._connection, statement, row.intent_note)
        if finding.verdict is Verdict.UNDECIDED:
            raise UndecidedError(planned.migration, item.statement)
        self._on_event(
            StatementRecovered(
                bundle=self._bundle.name,
                tag=planned.migration.tag,
                number=row.intent,
                verdict=finding.verdict,
                reason=finding.reason,
            )
        )
        for sql in finding.before:
            self._connection.execute(sql.encode())
        if finding.verdict is Verdict.APPLIED:
            self._finish(item, 0.0)
        else:
            self._run_alone(item, statement)
        return replace(planned, start=planned.start + 1)

    def _prepare(self) -> None:
        with suppress(psycopg.errors.DuplicatePreparedStatement):
            self._connection.execute(f"{PREPARE}{ADVANCE}".encode())
