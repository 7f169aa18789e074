"""How a run looks to who watches it: lines for people, JSON lines for scripts, both on standard error."""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import singledispatch

import click

from mosaic_gateway.cli.reporter import LiveReporter
from mosaic_gateway.migrations.events import (
    Event,
    LockBusy,
    LockWaited,
    MigrationApplied,
    PlanComputed,
    PoolerDetected,
    StatementApplied,
    StatementRecovered,
    StatementRetried,
    StatementsSent,
)

__all__ = ["watcher"]


def watcher(report: LiveReporter, *, as_json: bool) -> Callable[[Event], None]:
    """Return what shows the events of a run."""

    def show(event: Event) -> None:
        if as_json:
            click.echo(json.dumps(event.to_dict()), err=True)
        elif isinstance(event, StatementsSent | LockBusy):
            report.now(describe(event))
        elif text := describe(event):
            report.done(text)

    return show


@singledispatch
def describe(event: Event) -> str:
    """Return a line for *event*; empty for what needs no telling."""
    return str(event)


@describe.register
def _plan(event: PlanComputed) -> str:
    return f"{event.bundle}: {event.migrations} migration(s) to apply, {event.statements} statement(s)"


@describe.register
def _sent(event: StatementsSent) -> str:
    more = f" and {event.statements - 1} more" if event.statements > 1 else ""
    return f"{event.bundle} {event.tag}: statement {event.number} of {event.total}{more}"


@describe.register
def _statement(event: StatementApplied) -> str:
    took = f"{event.seconds * 1000:.1f} ms" if event.seconds < 1 else f"{event.seconds:.1f} s"
    return f"{event.bundle} {event.tag}: statement {event.number} of {event.total} ({took})"


@describe.register
def _migration(_event: MigrationApplied) -> str:
    return ""


@describe.register
def _retried(event: StatementRetried) -> str:
    return (
        f"{event.bundle} {event.tag}: statement {event.number} could not get a lock ({event.sqlstate}); "
        f"attempt {event.attempt + 1} follows"
    )


@describe.register
def _recovered(event: StatementRecovered) -> str:
    outcome = "it had taken effect" if event.verdict == "applied" else "it is run again"
    return f"{event.bundle} {event.tag}: statement {event.number} had been cut off; {event.reason}: {outcome}"


@describe.register
def _busy(event: LockBusy) -> str:
    who = f"server process {event.pid} ({event.application or 'no application name'})"
    return f"{event.bundle}: waiting for the migration run of {who}"


@describe.register
def _lock(event: LockWaited) -> str:
    return f"{event.bundle}: waited {event.seconds:.1f} s for another migration run"


@describe.register
def _pooler(event: PoolerDetected) -> str:
    return (
        f"{event.bundle}: there is a transaction pooler ({event.reason}). The lock is held by an open transaction; "
        "each statement is applied exactly once"
    )
