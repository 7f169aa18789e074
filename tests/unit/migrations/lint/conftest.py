"""In-memory bundles for lint.

``lint_one``  Lints one migration in the profile release and returns its (rule, line) pairs.
"""

from __future__ import annotations

import pytest
from tests.unit.migrations.lint.bundles import LintOne, bundle_of

from mosaic_gateway.migrations.lint.engine import lint_bundle_files
from mosaic_gateway.migrations.lint.finding import Profile


@pytest.fixture
def lint_one() -> LintOne:
    """Return a function that lints a bundle of one migration."""

    def lint(sql: str | bytes) -> list[tuple[str, int]]:
        findings = lint_bundle_files(bundle_of(**{"0000_one": sql}), profile=Profile.RELEASE)
        return [(str(finding.rule), finding.line) for finding in findings]

    return lint
