"""The form that checks have: what a fix may raise, and what is then said."""

from __future__ import annotations

import pytest

from mosaic_gateway.errors import MosaicError, PreflightError
from mosaic_gateway_installer.checks.finding import Check, Level, NotCheckedError, examine, repair


@pytest.mark.parametrize(
    "raised", [PreflightError("the disk is full"), OSError(28, "no room"), NotCheckedError("the database has ended")]
)
def test_a_fix_that_cannot_leaves_the_finding_with_its_reason(raised: Exception) -> None:
    """Between a check and its fix what the fix needs can go; the fault stays, and says why nothing was done."""

    def run(_subject: None) -> str:
        raise PreflightError("a fault")

    def fix(_subject: None, _error: MosaicError) -> str:
        raise raised

    check = Check(id="one", run=run, fix=fix)
    found = repair(check, None, examine(check, None))
    assert (found.level, found.message) == (Level.FAULT, "a fault")
    assert found.not_repaired == str(raised)
