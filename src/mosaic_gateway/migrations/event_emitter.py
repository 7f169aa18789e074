"""What a run of one bundle tells whoever watches, statement by statement, and which migrations it has finished."""

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
from mosaic_gateway.migrations.script import StatementTask
from mosaic_gateway.migrations.wire import ServerReply

__all__ = ["EventEmitter"]


class EventEmitter:
    """Tells the events of *bundle* (a name) to *on_event*; *finished*, the caller's list of tags, is added to."""

    def __init__(self, bundle: str, finished: list[str], on_event: Callable[[Event], None]) -> None:
        """Tell nothing yet."""
        self._bundle = bundle
        self._finished = finished
        self._on_event = on_event

    @property
    def finished(self) -> tuple[str, ...]:
        """The migrations that have got their ledger rows, in order."""
        return tuple(self._finished)

    @property
    def count(self) -> int:
        """How many these are."""
        return len(self._finished)

    def sent(self, item: StatementTask, statements: int) -> None:
        """So many *statements*, from *item* on, are on their way to the server."""
        self._on_event(
            StatementsSent(
                bundle=self._bundle,
                tag=item.migration.tag,
                number=item.statement.number,
                total=len(item.migration.statements),
                statements=statements,
            )
        )

    def answered(self, work: Sequence[StatementTask], answer: ServerReply) -> int:
        """Tell what of *work* was committed according to *answer*; return how many statements that are."""
        done = answer.commits
        ends = (*answer.steps[1:], time.time())
        for item, began, ended in zip(work[:done], answer.steps, ends, strict=False):
            self.applied(item, max(ended - began, 0.0))
        return done

    def applied(self, item: StatementTask, seconds: float) -> None:
        """*item* is committed, and with the last one its migration's ledger row."""
        self._on_event(
            StatementApplied(
                bundle=self._bundle,
                tag=item.migration.tag,
                number=item.statement.number,
                total=len(item.migration.statements),
                seconds=round(seconds, 6),
            )
        )
        if item.last:
            self.recorded(item.migration.tag)

    def recorded(self, tag: str) -> None:
        """The ledger row of *tag* is committed."""
        self._finished.append(tag)
        self._on_event(MigrationApplied(bundle=self._bundle, tag=tag))

    def retried(self, item: StatementTask, sqlstate: str, attempt: int) -> None:
        """*item* was rolled back for want of a lock and will be tried again."""
        self._on_event(
            StatementRetried(
                bundle=self._bundle,
                tag=item.migration.tag,
                number=item.statement.number,
                attempt=attempt,
                sqlstate=sqlstate,
            )
        )

    def recovered(self, planned: PlannedMigration, finding: ProbeResult) -> None:
        """It was found out what became of the first statement of *planned*, which an earlier run had begun."""
        self._on_event(
            StatementRecovered(
                bundle=self._bundle,
                tag=planned.migration.tag,
                number=planned.start + 1,
                verdict=finding.verdict,
                reason=finding.reason,
            )
        )
