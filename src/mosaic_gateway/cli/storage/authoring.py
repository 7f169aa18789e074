"""The verbs ``storage new`` and ``storage lint``, for authors of migrations; a program copy does not have them."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from mosaic_gateway.cli.envelope import Outcome
from mosaic_gateway.cli.verb_decorator import verb
from mosaic_gateway.errors import MigrationError, UsageError
from mosaic_gateway.hint import Text, command
from mosaic_gateway.installation.layout import Home

if TYPE_CHECKING:
    from mosaic_gateway.migrations.lint.finding import LintFinding

__all__ = ["LintFailedError", "lint", "new"]


@click.command(short_help="Create the next migration file.")
@click.argument("name")
@click.option(
    "--dir",
    "directory",
    type=click.Path(path_type=Path, exists=True, file_okay=False),
    required=True,
    metavar="DIR",
    help="A folder of migrations, or an empty folder.",
)
@verb("storage new", at_home=lambda _options: False)
def new(home: Home, *, name: str, directory: Path) -> Outcome:
    """Create the next migration, called NAME: its file and its journal entry; updates the hash lock if there is one.

    In a folder in the layout of drizzle-kit 1.0, which has no journal, it is a folder named by the time.

    Works only on the folder: no installation is needed.
    """
    from mosaic_gateway.migrations.authoring import new_migration

    del home
    created = new_migration(directory, name, now=time.time_ns() // 1_000_000)
    return Outcome(
        result={
            "tag": created.tag,
            "file": str(created.file),
            "index": created.index,
            "when": created.when,
            "locked": created.locked,
        },
        lines=(f"Created {created.file}", *_next_steps(directory, locked=created.locked)),
    )


def _next_steps(directory: Path, *, locked: bool) -> tuple[Text, ...]:
    check = "Write its statements, then run: " + command("storage lint", str(directory))
    if not locked:
        return (check,)
    from mosaic_gateway.migrations.gate import lock_command

    return (check, f"Then update the hash lock: {lock_command(directory)}")


class LintFailedError(MigrationError):
    """Lint found errors, or with ``--strict`` warnings."""

    code = "LINT_FAILED"


@click.command(short_help="Check migration files for unsafe statements.")
@click.argument(
    "directory", type=click.Path(path_type=Path, exists=True, file_okay=False), metavar="[DIR]", required=False
)
@click.option(
    "--profile",
    type=click.Choice(["safety", "release"]),
    help="Report what would fail, or run otherwise than with drizzle-orm (safety), or also what breaks programs of the "
    "version before (release). Default: release for a folder with a hash lock, otherwise safety.",
)
@click.option("--strict", is_flag=True, help="Treat warnings as errors.")
@verb("storage lint", at_home=lambda _options: False)
def lint(home: Home, *, directory: Path | None, profile: str | None, strict: bool) -> Outcome:
    """Check the migration files of DIR, by default those of this package, for unsafe statements.

    Reads only the files: no installation and no database is needed. Requires the extra "lint".
    """
    from mosaic_gateway.migrations.lint.engine import default_profile, lint_bundle_files
    from mosaic_gateway.migrations.lint.finding import Profile

    del home
    findings_by_bundle: dict[str, tuple[LintFinding, ...]] = {}
    profiles: dict[str, str] = {}
    for name, contents in _bundles(directory):
        chosen = default_profile(contents) if profile is None else Profile(profile)
        findings_by_bundle[name], profiles[name] = lint_bundle_files(contents, profile=chosen), str(chosen)
    errors = sum(_count(findings, "error") for findings in findings_by_bundle.values())
    warnings = sum(_count(findings, "warning") for findings in findings_by_bundle.values())
    bundles = [
        {"name": name, "profile": profiles[name], "findings": [one.to_dict() for one in findings]}
        for name, findings in findings_by_bundle.items()
    ]
    return Outcome(
        result={"errors": errors, "warnings": warnings, "strict": strict, "bundles": bundles},
        lines=(*_lines(findings_by_bundle), f"{errors} errors, {warnings} warnings"),
        error=_failure(errors, warnings, findings_by_bundle) if errors or (strict and warnings) else None,
    )


def _bundles(directory: Path | None) -> Iterator[tuple[str, dict[str, bytes]]]:
    from mosaic_gateway.migrations.gate import BUNDLES, read_directory
    from mosaic_gateway.migrations.lint.engine import packaged_files

    if directory is None:
        for bundle in BUNDLES:
            yield bundle, packaged_files(bundle)
        return
    contents = read_directory(directory)
    if not any(name.endswith((".sql", "_journal.json")) for name in contents):
        hint = "Name the folder that contains meta/_journal.json, or the folders of drizzle-kit 1.0."
        raise UsageError(f"there are no migrations in {directory}", hint=hint)
    yield directory.resolve().name, contents


def _count(findings: tuple[LintFinding, ...], severity: str) -> int:
    return sum(finding.severity == severity for finding in findings)


def _lines(findings_by_bundle: Mapping[str, tuple[LintFinding, ...]]) -> Iterator[str]:
    for name, findings in findings_by_bundle.items():
        for finding in findings:
            yield f"{name}/{finding.file}:{finding.line}: {finding.severity} [{finding.rule}] {finding.why}"
            yield f"    instead: {finding.instead}"


def _failure(errors: int, warnings: int, findings_by_bundle: Mapping[str, tuple[LintFinding, ...]]) -> LintFailedError:
    counts: dict[str, Any] = {"errors": errors, "warnings": warnings}
    rules = sorted({str(finding.rule) for findings in findings_by_bundle.values() for finding in findings})
    return LintFailedError(
        f"lint found {errors} errors and {warnings} warnings",
        hint="Do what each finding suggests, or allow a statement with: -- lint: allow RULE reason",
        details={**counts, "rules": rules},
    )
