"""In-memory bundles for lint.

``lint_one``  Lints one migration and returns its (rule, line) pairs.
"""

from __future__ import annotations

import pytest
from tests.unit.migrations.lint.bundles import LintOne, bundle_of

from mosaic_gateway.migrations.lint.engine import lint_bundle_files


@pytest.fixture
def lint_one() -> LintOne:
    """Return a function that lints a bundle of one migration."""

    def lint(sql: str | bytes) -> list[tuple[str, int]]:
        return [(str(finding.rule), finding.line) for finding in lint_bundle_files(bundle_of(**{"0000_one": sql}))]

    return lint
