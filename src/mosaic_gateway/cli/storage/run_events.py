"""Output of a run's events on standard error, as text or as JSON lines."""

from __future__ import annotations

import json
from functools import singledispatch

import click

from mosaic_gateway.cli.progress_reporter import LiveReporter
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

__all__ = ["print_event"]


def print_event(event: Event, report: LiveReporter, *, as_json: bool) -> None:
    """Print *event*: as one JSON line, or through *report*."""
    if as_json:
        click.echo(json.dumps(event.to_dict()), err=True)
    elif isinstance(event, StatementsSent | LockBusy):
        report.now(describe(event))
    elif text := describe(event):
        report.done(text)


@singledispatch
def describe(event: Event) -> str:
    """Return a line for *event*; empty if it is not printed."""
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
    duration = f"{event.seconds * 1000:.1f} ms" if event.seconds < 1 else f"{event.seconds:.1f} s"
    return f"{event.bundle} {event.tag}: statement {event.number} of {event.total} ({duration})"


@describe.register
def _migration(_event: MigrationApplied) -> str:
    return ""


@describe.register
def _retried(event: StatementRetried) -> str:
    return (
        f"{event.bundle} {event.tag}: statement {event.number} could not get a lock ({event.sqlstate}); "
        f"retrying, attempt {event.attempt + 1}"
    )


@describe.register
def _recovered(event: StatementRecovered) -> str:
    outcome = "it had taken effect" if event.verdict == "applied" else "running it again"
    return f"{event.bundle} {event.tag}: statement {event.number} was interrupted; {event.reason}: {outcome}"


@describe.register
def _busy(event: LockBusy) -> str:
    holder = f"server process {event.pid} ({event.application or 'no application name'})"
    return f"{event.bundle}: waiting for the migration run of {holder}"


@describe.register
def _lock(event: LockWaited) -> str:
    return f"{event.bundle}: waited {event.seconds:.1f} s for another migration run"


@describe.register
def _pooler(event: PoolerDetected) -> str:
    return (
        f"{event.bundle}: transaction pooler detected ({event.reason}). The lock is held by an open transaction; "
        "each statement is applied exactly once"
    )
