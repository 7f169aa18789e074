"""storage migrate."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from mosaic_gateway.cli.envelope import Outcome
from mosaic_gateway.cli.reporter import reporter
from mosaic_gateway.cli.storage.progress_output import watcher
from mosaic_gateway.cli.storage.target import open_place, place_options, uses_home
from mosaic_gateway.cli.verb import verb
from mosaic_gateway.installation.engine_name import EngineName
from mosaic_gateway.installation.layout import Home

if TYPE_CHECKING:
    from mosaic_gateway.migrations.runner import MigrationReport

__all__ = ["migrate"]


@click.command(short_help="Apply the pending migrations.")
@click.option("--lock-timeout", type=click.FloatRange(min=0), default=60.0, show_default=True, help="Seconds to wait.")
@place_options
@verb("storage migrate", at_home=uses_home, passes_form=True)
def migrate(
    home: Home,
    *,
    as_json: bool,
    lock_timeout: float,
    folder: Path | None,
    database_url: str | None,
    database_url_file: Path | None,
) -> Outcome:
    """Apply the pending migrations. The gateway does the same by itself whenever it starts.

    An installation of another version is left alone: ``upgrade`` migrates it, with a backup and a way back.
    With --json each event of the run is a JSON object on standard error, one a line.
    """
    from mosaic_gateway.gateway.control.program import refuse_other_version
    from mosaic_gateway.gateway.migration_file_lock import migration_file_lock
    from mosaic_gateway.gateway.schema import apply_bundles

    if folder is None and database_url is None and database_url_file is None:
        refuse_other_version(home)
    with (
        reporter() as report,
        open_place(
            home, "migrate", folder=folder, database_url=database_url, database_url_file=database_url_file
        ) as place,
        migration_file_lock(place.config, lock_timeout),
    ):
        reports = apply_bundles(
            place.bundles,
            place.connection,
            place.engine,
            lock_timeout=lock_timeout,
            alone=place.alone,
            on_event=watcher(report, as_json=as_json),
        )
        engine = place.engine
    return Outcome(
        result={
            "engine": str(engine),
            "bundles": [
                {"bundle": r.bundle, "applied": list(r.applied), "already_applied": r.already_applied} for r in reports
            ],
        },
        lines=(
            *(_summary(r, engine) for r in reports),
            *(("The gateway applies its migrations by itself whenever it starts.",) if folder is None else ()),
        ),
    )


def _summary(report: MigrationReport, engine: EngineName) -> str:
    if not report.applied:
        return f"{report.bundle}: up to date, {report.already_applied} applied ({engine})"
    applied = ", ".join(report.applied)
    return f"{report.bundle}: applied {applied} ({engine}); {report.already_applied} were applied before"
