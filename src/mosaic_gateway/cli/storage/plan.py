"""The verb ``storage plan``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from mosaic_gateway.cli.envelope import Outcome
from mosaic_gateway.cli.storage.target import bundle_warnings, database_verb, open_target
from mosaic_gateway.installation.layout import Home

if TYPE_CHECKING:
    from mosaic_gateway.migrations.bundle import Bundle
    from mosaic_gateway.migrations.model import Plan

__all__ = ["plan"]


@click.command(short_help="Show the statements that migrate would run; write nothing.")
@click.option("--sql", "full", is_flag=True, help="Show the full text of the statements.")
@database_verb("storage plan")
def plan(home: Home, *, full: bool, **where: Any) -> Outcome:
    """Show what migrate would run, statement by statement. Writes nothing."""
    from mosaic_gateway.migrations.runner import read_plan

    with open_target(home, "plan", **where) as target:
        plans = [(bundle, read_plan(target.connection, bundle)) for bundle in target.bundles]
    lines = [line for bundle, pending in plans for line in _lines(bundle, pending, full=full)]
    return Outcome(result={"bundles": [_describe(bundle, pending) for bundle, pending in plans]}, lines=tuple(lines))


def _describe(bundle: Bundle, plan: Plan) -> dict[str, Any]:
    return {
        "bundle": bundle.name,
        "applied": plan.applied,
        "warnings": bundle_warnings(bundle, plan.other_line_endings),
        "pending": [
            {
                "tag": planned.migration.tag,
                "begins_with": planned.start + 1,
                "statements": [
                    {"number": statement.number, "line": statement.line, "sql": statement.sql}
                    for statement in planned.migration.statements[planned.start :]
                ],
            }
            for planned in plan.pending
        ],
    }


def _lines(bundle: Bundle, plan: Plan, *, full: bool) -> list[str]:
    pending = "up to date" if plan.up_to_date else f"{len(plan.pending)} to apply"
    lines = [f"{bundle.name}: {pending}, {plan.applied} applied"]
    lines += [f"  warning: {warning}" for warning in bundle_warnings(bundle, plan.other_line_endings)]
    for planned in plan.pending:
        migration = planned.migration
        where = f", from statement {planned.start + 1}" if planned.start else ""
        lines.append(f"  {migration.tag} ({len(migration.statements)} statements{where})")
        lines += [
            f"    {statement.number}. line {statement.line}: {_format_sql(statement.sql, full=full)}"
            for statement in migration.statements[planned.start :]
        ]
    return lines


def _format_sql(sql: str, *, full: bool) -> str:
    if full:
        return sql.replace("\n", "\n       ")
    from mosaic_gateway.migrations.plan import shorten

    return shorten(sql)
