"""Checks and their fixes: the result if a fix fails."""

from __future__ import annotations

from pathlib import Path

import pytest

from mosaic_gateway.config import Config
from mosaic_gateway.errors import MosaicError, PreflightError
from mosaic_gateway.installation.layout import Home
from mosaic_gateway_installer.checks.finding import Check, Level, NotCheckedError, examine, repair
from mosaic_gateway_installer.step import Target


@pytest.mark.parametrize(
    "raised", [PreflightError("the disk is full"), OSError(28, "no room"), NotCheckedError("the database has ended")]
)
def test_a_failed_fix_leaves_the_fault_with_a_reason(raised: Exception) -> None:
    """If a fix raises, the fault stays, and the result states why it was not repaired."""

    def run(_target: Target) -> str:
        raise PreflightError("a fault")

    def fix(_target: Target, _error: MosaicError) -> str:
        raise raised

    check = Check(id="one", run=run, fix=fix)
    target = Target(config=Config(home=Home(Path("unused"))))
    result = repair(check, target, examine(check, target))
    assert (result.level, result.message) == (Level.FAULT, "a fault")
    assert result.not_repaired == str(raised)
