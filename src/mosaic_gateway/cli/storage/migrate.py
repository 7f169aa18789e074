"""The verb ``storage migrate``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from mosaic_gateway.cli.envelope import Outcome
from mosaic_gateway.cli.progress_reporter import reporter
from mosaic_gateway.cli.storage.target import bundle_warnings, database_verb, open_target
from mosaic_gateway.installation.engine_name import EngineName
from mosaic_gateway.installation.layout import Home

if TYPE_CHECKING:
    from mosaic_gateway.migrations.events import Event
    from mosaic_gateway.migrations.model import MigrationReport

__all__ = ["migrate"]


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

    def show(event: Event) -> None:
        from mosaic_gateway.cli.storage.run_events import print_event

        print_event(event, report, as_json=as_json)

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
            on_event=show,
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
