"""Lint of a bundle: its SQL files, its folder, and the allowances in its comments.

pglast is imported only when lint runs: it is an optional extra under the GPL.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from importlib_resources import as_file, files

from mosaic_gateway.errors import PreflightError
from mosaic_gateway.migrations.gate import read_directory
from mosaic_gateway.migrations.lint.finding import LintFinding
from mosaic_gateway.migrations.lint.journal import check_folder

__all__ = ["ParserMissingError", "lint_bundle_files", "packaged_files"]

PARSER = "pglast"


class ParserMissingError(PreflightError):
    """The parser that lint needs is not installed."""

    code = "LINT_PARSER_MISSING"


def lint_bundle_files(contents: Mapping[str, bytes]) -> tuple[LintFinding, ...]:
    """Return the findings for a bundle, sorted by file and line, without those that its comments allow.

    *contents* maps the posix name of each file in the bundle's folder to its bytes, as for `Bundle.from_files`;
    files other than SQL and the journal are ignored. Raises `ParserMissingError`.
    """
    with _parser():
        from mosaic_gateway.migrations.lint.allow import apply_allowances  # noqa: PLC0415 - see the module's docstring
        from mosaic_gateway.migrations.lint.rules import check_files  # noqa: PLC0415 - as above
    sql = {name: contents[name] for name in sorted(contents) if name.endswith(".sql")}
    findings, allowances = check_files(sql)
    findings += check_folder(contents)
    remaining = apply_allowances(findings, allowances)
    return tuple(sorted(remaining, key=lambda finding: (finding.file, finding.line, finding.rule)))


def packaged_files(bundle: str) -> dict[str, bytes]:
    """Return the files of the packaged *bundle*, keyed by their name in its folder. Raises OSError."""
    with as_file(files("mosaic_gateway") / "sql" / bundle) as directory:
        return read_directory(Path(directory))


@contextmanager
def _parser() -> Iterator[None]:
    try:
        yield
    except ModuleNotFoundError as error:
        if (error.name or "").split(".")[0] != PARSER:
            raise
        raise ParserMissingError(
            "storage lint needs pglast, PostgreSQL's own parser, which is not installed",
            hint="Install it: pip install 'mosaic-gateway[lint]'",
        ) from error
