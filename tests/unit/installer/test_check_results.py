"""Checks and their fixes: the result if a fix fails."""

from __future__ import annotations

import pytest

from mosaic_gateway.errors import MosaicError, PreflightError
from mosaic_gateway_installer.checks.finding import Check, Level, NotCheckedError, examine, repair


@pytest.mark.parametrize(
    "raised", [PreflightError("the disk is full"), OSError(28, "no room"), NotCheckedError("the database has ended")]
)
def test_a_failed_fix_leaves_the_fault_with_a_reason(raised: Exception) -> None:
    """If a fix raises, the fault stays, and the result states why it was not repaired."""

    def run(_subject: None) -> str:
        raise PreflightError("a fault")

    def fix(_subject: None, _error: MosaicError) -> str:
        raise raised

    check = Check(id="one", run=run, fix=fix)
    result = repair(check, None, examine(check, None))
    assert (result.level, result.message) == (Level.FAULT, "a fault")
    assert result.not_repaired == str(raised)
