"""The verbs ``storage status`` and ``storage plan``, which only read."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from mosaic_gateway.cli.envelope import Outcome
from mosaic_gateway.cli.storage.target import bundle_warnings, database_verb, open_target
from mosaic_gateway.errors import MosaicError
from mosaic_gateway.installation.layout import Home

if TYPE_CHECKING:
    from mosaic_gateway.migrations.bundle import Bundle
    from mosaic_gateway.migrations.model import LedgerState, Migration, Plan

__all__ = ["plan", "status"]


@click.command(short_help="Show which migrations are applied, half applied or pending.")
@database_verb("storage status")
def status(home: Home, **where: Any) -> Outcome:
    """Show which migrations are applied, half applied and pending. Writes nothing."""
    from mosaic_gateway.migrations.runner import read_plan, read_state

    error: MosaicError | None = None
    results: list[dict[str, Any]] = []
    with open_target(home, "status", **where) as target:
        for bundle in target.bundles:
            state = read_state(target.connection, bundle)
            unknown: list[dict[str, Any]] = []
            try:
                read_plan(target.connection, bundle)
            except MosaicError as refusal:
                error = error or refusal
                unknown = refusal.details.get("rows", [])
            results.append({**_describe_migrations(bundle, state), "unknown_rows": unknown})
    lines = tuple(line for result in results for line in _table(result))
    return Outcome(result={"bundles": results}, lines=lines, error=error)


def _describe_migrations(bundle: Bundle, state: LedgerState) -> dict[str, Any]:
    from mosaic_gateway.migrations.matching import match

    matches = match(bundle.migrations, state.applied)
    migrations = [
        _entry(migration, state, pending=index not in matches.applied)
        for index, migration in enumerate(bundle.migrations)
    ]
    other = [bundle.migrations[index].tag for index in sorted(matches.other_line_endings)]
    return {
        "bundle": bundle.name,
        "ledger_rows": len(state.applied),
        "warnings": bundle_warnings(bundle, other),
        "migrations": migrations,
    }


def _entry(migration: Migration, state: LedgerState, *, pending: bool) -> dict[str, Any]:
    entry: dict[str, Any] = {"tag": migration.tag, "state": "applied", "statements": len(migration.statements)}
    if not pending:
        return entry
    progress = state.progress.get(migration.tag)
    applied = progress.applied if progress is not None else 0
    all_applied = bool(migration.statements) and applied == len(migration.statements)  # but with another hash
    entry["state"] = "changed" if all_applied else "half applied" if applied else "pending"
    entry["statements_applied"] = applied
    if progress is not None and progress.intent is not None:
        entry["state"] = "half applied"
        entry["interrupted"] = {"statement": progress.intent, "sql": _sql(migration, progress.intent)}
    if progress is not None and progress.failed_statement is not None:
        entry["failed"] = {
            "statement": progress.failed_statement,
            "sqlstate": progress.failed_sqlstate,
            "message": progress.failed_message,
            "sql": _sql(migration, progress.failed_statement),
        }
    return entry


def _sql(migration: Migration, number: int) -> str:
    return migration.statements[number - 1].sql if number <= len(migration.statements) else ""


def _table(result: dict[str, Any]) -> list[str]:
    width = max((len(entry["tag"]) for entry in result["migrations"]), default=0) + 2
    lines = [str(result["bundle"])]
    lines += [f"  warning: {warning}" for warning in result["warnings"]]
    lines += [
        "  unknown row: " + ", ".join(f"{key} {value}" for key, value in row.items()) for row in result["unknown_rows"]
    ]
    for entry in result["migrations"]:
        text = entry["state"]
        if text == "half applied":
            text += f": {entry['statements_applied']} of {entry['statements']}"
        lines.append(f"  {entry['tag']:<{width}} {text}")
        if "interrupted" in entry:
            number = entry["interrupted"]["statement"]
            lines.append(f"  {'':<{width}} interrupted in statement {number}; migrate checks whether it took effect")
        if "failed" in entry:
            failed = entry["failed"]
            lines.append(f"  {'':<{width}} statement {failed['statement']} failed: {failed['message']} "
                         f"(SQLSTATE {failed['sqlstate']})")  # fmt: skip
            lines += [f"  {'':<{width}}   {line}" for line in failed["sql"].splitlines()]
    return lines


@click.command(short_help="Show the statements that migrate would run; write nothing.")
@click.option("--sql", "full", is_flag=True, help="Show the full text of the statements.")
@database_verb("storage plan")
def plan(home: Home, *, full: bool, **where: Any) -> Outcome:
    """Show what migrate would run, statement by statement. Writes nothing."""
    from mosaic_gateway.migrations.runner import read_plan

    with open_target(home, "plan", **where) as target:
        plans = [(bundle, read_plan(target.connection, bundle)) for bundle in target.bundles]
    lines = [line for bundle, pending in plans for line in _lines(bundle, pending, full=full)]
    return Outcome(
        result={"bundles": [_describe_plan(bundle, pending) for bundle, pending in plans]}, lines=tuple(lines)
    )


def _describe_plan(bundle: Bundle, plan: Plan) -> dict[str, Any]:
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
