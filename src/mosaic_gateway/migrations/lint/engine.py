"""Lint of a bundle: its SQL files, its folder, and the allowances in its comments.

pglast is imported only when lint runs: it is an optional extra under the GPL.
"""

from __future__ import annotations

import shlex
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from importlib_resources import as_file, files

from mosaic_gateway.errors import PreflightError
from mosaic_gateway.migrations.gate import LOCK_NAME, read_directory
from mosaic_gateway.migrations.lint.finding import LintFinding, Profile, Severity
from mosaic_gateway.migrations.lint.folder_files import running_files, unlisted_files
from mosaic_gateway.migrations.lint.journal import check_folder

__all__ = ["ParserMissingError", "default_profile", "lint_bundle_files", "packaged_files"]

PARSER = "pglast"
REQUIREMENT = "mosaic-gateway[lint]"


class ParserMissingError(PreflightError):
    """The parser that lint needs is not installed."""

    code = "LINT_PARSER_MISSING"


def default_profile(contents: Mapping[str, bytes]) -> Profile:
    """Return the profile of a bundle for which none is given: `Profile.RELEASE` if it has a hash lock."""
    return Profile.RELEASE if LOCK_NAME in contents else Profile.SAFETY


def lint_bundle_files(contents: Mapping[str, bytes], *, profile: Profile | None = None) -> tuple[LintFinding, ...]:
    """Return the findings for a bundle, sorted by file and line, without those that its comments allow.

    *contents* maps the posix name of each file in the bundle's folder to its bytes, as for `Bundle.from_files`;
    files other than the journal and the SQL that it lists are ignored. Without *profile*, it is the bundle's
    `default_profile`. Raises `ParserMissingError`.
    """
    profile = default_profile(contents) if profile is None else profile
    with _parser():
        from mosaic_gateway.migrations.lint.allow import apply_allowances  # noqa: PLC0415 - see the module's docstring
        from mosaic_gateway.migrations.lint.rules import check_files, unlisted_allowances  # noqa: PLC0415 - as above
    findings, allowances = check_files({name: contents[name] for name in running_files(contents)})
    findings += check_folder(contents)
    allowances += unlisted_allowances({name: contents[name] for name in unlisted_files(contents)})
    remaining = (replace(finding, profile=profile) for finding in apply_allowances(findings, allowances))
    reported = (finding for finding in remaining if finding.severity is not Severity.OFF)
    return tuple(sorted(reported, key=lambda finding: (finding.file, finding.line, finding.rule)))


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
            hint=f"Install it: {shlex.join([sys.executable, '-m', 'pip', 'install', REQUIREMENT])}",
        ) from error
