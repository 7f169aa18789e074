"""Lint of the packaged bundles, the documentation of the rules, and the optional parser."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from mosaic_gateway.migrations.gate import BUNDLES, check_bundle
from mosaic_gateway.migrations.lint.engine import lint_bundle_files, packaged_files
from mosaic_gateway.migrations.lint.finding import SEVERITIES, Rule

DOCUMENT = Path(__file__).parents[4] / "docs" / "reference" / "lint.md"
ROW = re.compile(r"^\| `([a-z-]+)` \| (error|warning|off) \| (error|warning|off) \| \S.* \| \S.* \|$")
WITHOUT_PARSER = """
import sys
sys.modules["pglast"] = None
from mosaic_gateway.migrations.lint.engine import ParserMissingError, lint_bundle_files
try:
    lint_bundle_files({})
except ParserMissingError as error:
    print(error.code, int(error.exit_code), error.hint)
"""
IMPORTS_ONLY = """
import sys
import mosaic_gateway.migrations.lint.engine
import mosaic_gateway.migrations.lint.finding
import mosaic_gateway.migrations.lint.journal
import mosaic_gateway.migrations.authoring
import mosaic_gateway.migrations.runner
print("pglast" in sys.modules)
"""


@pytest.mark.parametrize("bundle", BUNDLES)
def test_packaged_bundle_is_clean(bundle: str) -> None:
    """The packaged bundles have no findings, warnings included."""
    files = packaged_files(bundle)
    assert check_bundle(bundle, files) == ()
    assert lint_bundle_files(files) == ()


def test_every_packaged_file_is_checked() -> None:
    """A fault added to any file of the packaged bundle is reported."""
    files = packaged_files("gateway")
    for name in sorted(files):
        if name.endswith(".sql"):
            broken = {**files, name: files[name] + b"\n--> statement-breakpoint\nROLLBACK;\n"}
            assert [finding.rule for finding in lint_bundle_files(broken)] == ["transaction-control"]


def test_every_rule_is_documented() -> None:
    """docs/reference/lint.md lists each rule with its severities, in the order of the rules."""
    rows = [match.groups() for line in DOCUMENT.read_text().splitlines() if (match := ROW.match(line))]
    assert rows == [(str(rule), str(each.safety), str(each.release)) for rule, each in SEVERITIES.items()]
    assert list(SEVERITIES) == list(Rule)


def test_parser_missing() -> None:
    """Without pglast, lint fails with the command that installs it for the interpreter that runs."""
    command = f"{sys.executable} -m pip install 'mosaic-gateway[lint]'"
    assert _python(WITHOUT_PARSER) == f"LINT_PARSER_MISSING 3 Install it: {command}\n"


def test_parser_is_imported_only_by_a_lint_run() -> None:
    """Importing the modules does not import pglast."""
    assert _python(IMPORTS_ONLY) == "False\n"


def _python(code: str) -> str:
    done = subprocess.run([sys.executable, "-P", "-c", code], capture_output=True, text=True, timeout=30, check=True)
    assert done.stderr == ""
    return done.stdout
