"""storage lint."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from mosaic_gateway.cli.envelope import Outcome
from mosaic_gateway.cli.verb import verb
from mosaic_gateway.errors import MigrationError, UsageError
from mosaic_gateway.installation.layout import Home

if TYPE_CHECKING:
    from mosaic_gateway.migrations.lint.finding import LintFinding

__all__ = ["LintFailedError", "lint"]


class LintFailedError(MigrationError):
    """Lint found errors, or with ``--strict`` warnings."""

    code = "LINT_FAILED"


@click.command(short_help="Look for what goes wrong in migration files.")
@click.argument(
    "directory", type=click.Path(path_type=Path, exists=True, file_okay=False), metavar="[DIR]", required=False
)
@click.option("--strict", is_flag=True, help="Warnings count as errors.")
@verb("storage lint", at_home=lambda _options: False)
def lint(home: Home, *, directory: Path | None, strict: bool) -> Outcome:
    """Look for what goes wrong in the migration files of DIR, without it in those of this package.

    Works on the files alone: no installation and no database is needed. Wants the extra "lint".
    """
    from mosaic_gateway.migrations.lint.engine import lint_bundle_files

    del home
    found = {name: lint_bundle_files(contents) for name, contents in _bundles(directory)}
    errors = sum(_count(findings, "error") for findings in found.values())
    warnings = sum(_count(findings, "warning") for findings in found.values())
    bundles = [{"name": name, "findings": [one.to_dict() for one in findings]} for name, findings in found.items()]
    return Outcome(
        result={"errors": errors, "warnings": warnings, "strict": strict, "bundles": bundles},
        lines=(*_lines(found), f"{errors} errors, {warnings} warnings"),
        error=_failure(errors, warnings, found) if errors or (strict and warnings) else None,
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
        hint = "Name the folder that holds meta/_journal.json."
        raise UsageError(f"there are no migrations in {directory}", hint=hint)
    yield directory.resolve().name, contents


def _count(findings: tuple[LintFinding, ...], severity: str) -> int:
    return sum(finding.severity == severity for finding in findings)


def _lines(found: Mapping[str, tuple[LintFinding, ...]]) -> Iterator[str]:
    for name, findings in found.items():
        for finding in findings:
            yield f"{name}/{finding.file}:{finding.line}: {finding.severity} [{finding.rule}] {finding.why}"
            yield f"    instead: {finding.instead}"


def _failure(errors: int, warnings: int, found: Mapping[str, tuple[LintFinding, ...]]) -> LintFailedError:
    counts: dict[str, Any] = {"errors": errors, "warnings": warnings}
    rules = sorted({str(finding.rule) for findings in found.values() for finding in findings})
    return LintFailedError(
        f"lint found {errors} errors and {warnings} warnings",
        hint="Write what each finding says instead, or allow it with a reason: -- lint: allow RULE reason",
        details={**counts, "rules": rules},
    )
