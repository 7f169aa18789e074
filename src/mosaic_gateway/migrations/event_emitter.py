"""Emits the events of a run over one bundle, and records which migrations the run has finished."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

from mosaic_gateway.migrations.events import (
    Event,
    MigrationApplied,
    StatementApplied,
    StatementRecovered,
    StatementRetried,
    StatementsSent,
)
from mosaic_gateway.migrations.model import PlannedMigration
from mosaic_gateway.migrations.nontransactional.statements import ProbeResult
from mosaic_gateway.migrations.script import GroupTask
from mosaic_gateway.migrations.wire import ServerReply

__all__ = ["EventEmitter"]


class EventEmitter:
    """Passes the events of *bundle* (a name) to *on_event*; appends finished tags to the caller's list *finished*."""

    def __init__(self, bundle: str, finished: list[str], on_event: Callable[[Event], None]) -> None:
        """Emit nothing yet."""
        self._bundle = bundle
        self._finished = finished
        self._on_event = on_event

    @property
    def finished(self) -> tuple[str, ...]:
        """The migrations whose ledger rows this run committed, in order."""
        return tuple(self._finished)

    @property
    def count(self) -> int:
        """Number of finished migrations."""
        return len(self._finished)

    def sent(self, item: GroupTask, statements: int) -> None:
        """Emit that *statements* statements, beginning with *item*, were sent to the server."""
        self._on_event(
            StatementsSent(
                bundle=self._bundle,
                tag=item.migration.tag,
                number=item.statement.number,
                total=len(item.migration.statements),
                statements=statements,
            )
        )

    def replied(self, work: Sequence[GroupTask], reply: ServerReply) -> int:
        """Emit which groups of *work* were committed according to *reply*; return their number."""
        done = reply.commits
        ends = (*reply.steps[1:], time.time())
        for item, began, ended in zip(work[:done], reply.steps, ends, strict=False):
            self.applied(item, max(ended - began, 0.0))
        return done

    def applied(self, item: GroupTask, seconds: float) -> None:
        """Emit that the statements of *item* are committed, which took *seconds* together.

        After the last one, also emit that its migration is recorded.
        """
        for statement in item.group.statements:
            self._on_event(
                StatementApplied(
                    bundle=self._bundle,
                    tag=item.migration.tag,
                    number=statement.number,
                    total=len(item.migration.statements),
                    seconds=round(seconds, 6) if statement.number == item.group.last else 0.0,
                )
            )
        if item.last:
            self.recorded(item.migration.tag)

    def recorded(self, tag: str) -> None:
        """Emit that the ledger row of *tag* is committed."""
        self._finished.append(tag)
        self._on_event(MigrationApplied(bundle=self._bundle, tag=tag))

    def retried(self, item: GroupTask, sqlstate: str, attempt: int) -> None:
        """Emit that *item* was rolled back because it could not get a lock, and will be retried."""
        self._on_event(
            StatementRetried(
                bundle=self._bundle,
                tag=item.migration.tag,
                number=item.statement.number,
                attempt=attempt,
                sqlstate=sqlstate,
            )
        )

    def recovered(self, planned: PlannedMigration, result: ProbeResult) -> None:
        """Emit the outcome of the first statement of *planned*, in which an earlier run was interrupted."""
        self._on_event(
            StatementRecovered(
                bundle=self._bundle,
                tag=planned.migration.tag,
                number=planned.start + 1,
                verdict=result.verdict,
                reason=result.reason,
            )
        )
