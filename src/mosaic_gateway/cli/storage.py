"""storage status, storage migrate."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from mosaic_gateway.cli.envelope import Outcome
from mosaic_gateway.cli.reporter import reporter
from mosaic_gateway.cli.settings import installation_of
from mosaic_gateway.cli.verb import verb
from mosaic_gateway.config import EngineName, Home
from mosaic_gateway.errors import MosaicError
from mosaic_gateway.gateway.opening import open_database
from mosaic_gateway.gateway.schema import load_bundles, prepare_schema
from mosaic_gateway.migrations.bundle import Bundle
from mosaic_gateway.migrations.events import Event, StatementApplied
from mosaic_gateway.migrations.model import LedgerState
from mosaic_gateway.migrations.plan import make_plan

if TYPE_CHECKING:
    from mosaic_gateway.migrations.runner import MigrationReport

__all__ = ["migrate", "status", "storage"]


@click.group()
def storage() -> None:
    """Look at the database schema and bring it up to date."""


@storage.command()
@verb("storage status")
def status(home: Home) -> Outcome:
    """Say which migrations are applied, half applied and pending. Writes nothing to the schema."""
    from mosaic_gateway.engines.session import connect
    from mosaic_gateway.migrations.runner import read_state

    installation = installation_of(home)
    bundles = load_bundles()
    with (
        open_database(installation.config, installation.account) as conninfo,
        connect(conninfo, application_name="mosaic-gateway storage status") as connection,
    ):
        states = [(bundle, read_state(connection, bundle)) for bundle in bundles]
    error: MosaicError | None = None
    results: list[dict[str, Any]] = []
    lines: list[str] = []
    for bundle, state in states:
        try:
            pending = {planned.migration.tag for planned in make_plan(bundle, state).pending}
        except MosaicError as refusal:
            error = error or refusal
            applied = {row.hash for row in state.applied}
            pending = {migration.tag for migration in bundle.migrations if migration.hash not in applied}
        result = _describe(bundle, state, pending)
        results.append(result)
        lines += _table(result)
    return Outcome(result={"bundles": results}, lines=tuple(lines), error=error)


@storage.command()
@click.option("--lock-timeout", type=click.FloatRange(min=0), default=60.0, show_default=True, help="Seconds to wait.")
@verb("storage migrate")
def migrate(home: Home, *, lock_timeout: float) -> Outcome:
    """Apply the pending migrations. The gateway does the same by itself whenever it starts."""
    installation = installation_of(home)
    bundles = load_bundles()
    with reporter() as report, open_database(installation.config, installation.account) as conninfo:

        def show(event: Event) -> None:
            if not isinstance(event, StatementApplied):
                return
            report.done(
                f"{event.bundle} {event.tag}: statement {event.number} of {event.total} ({event.seconds * 1000:.0f} ms)"
            )

        reports = prepare_schema(
            bundles, conninfo, installation.config.engine, lock_timeout=lock_timeout, on_event=show
        )
    return Outcome(
        result={
            "engine": str(installation.config.engine),
            "bundles": [
                {"bundle": r.bundle, "applied": list(r.applied), "already_applied": r.already_applied} for r in reports
            ],
        },
        lines=tuple(_summary(r, installation.config.engine) for r in reports),
    )


def _summary(report: MigrationReport, engine: EngineName) -> str:
    if not report.applied:
        return f"{report.bundle}: up to date, {report.already_applied} applied ({engine})"
    return (
        f"{report.bundle}: applied {', '.join(report.applied)} ({engine}); {report.already_applied} were applied before"
    )


def _describe(bundle: Bundle, state: LedgerState, pending: set[str]) -> dict[str, Any]:
    migrations = []
    for migration in bundle.migrations:
        progress = state.progress.get(migration.tag)
        entry: dict[str, Any] = {"tag": migration.tag, "state": "applied", "statements": len(migration.statements)}
        if migration.tag in pending:
            applied = progress.applied if progress is not None else 0
            whole = applied == len(migration.statements)  # yet not in the ledger: applied in another form
            entry["state"] = "changed" if whole else "half applied" if applied else "pending"
            entry["statements_applied"] = applied
            if progress is not None and progress.failed_statement is not None:
                entry["failed"] = {
                    "statement": progress.failed_statement,
                    "sqlstate": progress.failed_sqlstate,
                    "message": progress.failed_message,
                }
        migrations.append(entry)
    return {"bundle": bundle.name, "ledger_rows": len(state.applied), "migrations": migrations}


def _table(result: dict[str, Any]) -> list[str]:
    lines = [f"{result['bundle']}"]
    for entry in result["migrations"]:
        text = entry["state"]
        if text == "half applied":
            text += f": {entry['statements_applied']} of {entry['statements']}"
        if "failed" in entry:
            failed = entry["failed"]
            text += f"; statement {failed['statement']} failed: {failed['message']} (SQLSTATE {failed['sqlstate']})"
        lines.append(f"  {entry['tag']:<36} {text}")
    return lines
