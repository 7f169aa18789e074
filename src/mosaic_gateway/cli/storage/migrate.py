"""The verb ``storage migrate``, and its output: the events of the run on standard error, as text or as JSON lines."""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import singledispatch
from typing import TYPE_CHECKING, Any

import click

from mosaic_gateway.cli.envelope import Outcome
from mosaic_gateway.cli.progress_reporter import LiveReporter, reporter
from mosaic_gateway.cli.storage.target import bundle_warnings, database_verb, open_target
from mosaic_gateway.installation.engine_name import EngineName
from mosaic_gateway.installation.layout import Home
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

if TYPE_CHECKING:
    from mosaic_gateway.migrations.runner import MigrationReport

__all__ = ["event_printer", "migrate"]


def event_printer(report: LiveReporter, *, as_json: bool) -> Callable[[Event], None]:
    """Return a function that prints the events of a run."""

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


@click.command(short_help="Apply the pending migrations.")
@click.option(
    "--lock-timeout",
    type=click.FloatRange(min=0),
    default=60.0,
    show_default=True,
    help="Seconds to wait for another migration run.",
)
@database_verb("storage migrate", passes_as_json=True)
def migrate(home: Home, *, as_json: bool, lock_timeout: float, **where: Any) -> Outcome:
    """Apply the pending migrations. The gateway does the same with its own whenever it starts.

    An installation of another version is refused: the command upgrade migrates it, with backup and rollback.

    With --json, each event of the run is printed on standard error as a JSON object on one line.
    """
    from mosaic_gateway.gateway.control.program import refuse_other_version
    from mosaic_gateway.gateway.schema import apply_bundles, migrations_locked

    if not any(where.values()):
        refuse_other_version(home)
    with (
        reporter() as report,
        open_target(home, "migrate", **where) as target,
        migrations_locked(target.config, lock_timeout),
    ):
        reports = apply_bundles(
            target.bundles,
            target.connection,
            target.engine,
            lock_timeout=lock_timeout,
            alone=target.alone,
            on_event=event_printer(report, as_json=as_json),
        )
        engine = target.engine
        results = [
            (done, bundle_warnings(bundle, done.other_line_endings))
            for bundle, done in zip(target.bundles, reports, strict=True)
        ]
    return Outcome(
        result={
            "engine": str(engine),
            "bundles": [
                {
                    "bundle": done.bundle,
                    "applied": list(done.applied),
                    "already_applied": done.already_applied,
                    "warnings": warnings,
                }
                for done, warnings in results
            ],
        },
        lines=(
            *(f"{done.bundle}: warning: {warning}" for done, warnings in results for warning in warnings),
            *(_summary(done, engine) for done, _ in results),
            *(("The gateway applies pending migrations whenever it starts.",) if where["folder"] is None else ()),
        ),
    )


def _summary(report: MigrationReport, engine: EngineName) -> str:
    if not report.applied:
        return f"{report.bundle}: up to date, {report.already_applied} applied ({engine})"
    applied = ", ".join(report.applied)
    return f"{report.bundle}: applied {applied} ({engine}); {report.already_applied} already applied"
