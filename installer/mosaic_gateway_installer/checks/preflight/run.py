"""The list of the checks before an installation, and the error that reports their faults."""

from __future__ import annotations

from collections.abc import Sequence

from mosaic_gateway.errors import MosaicError, PreflightError
from mosaic_gateway.hint import Hint
from mosaic_gateway_installer.checks.finding import Check, CheckResult, Level, examine
from mosaic_gateway_installer.checks.package import BUNDLES
from mosaic_gateway_installer.checks.preflight import disk_space, engine, home, machine, network, retained_data
from mosaic_gateway_installer.step import Target

__all__ = ["CHECKS", "PreflightFailedError", "check_install", "examine_install"]


class PreflightFailedError(PreflightError):
    """Several checks failed; message and ``details`` list each with its code, message and hint."""

    code = "PREFLIGHT_FAILED"

    def __init__(self, faults: Sequence[MosaicError]) -> None:
        heading = Hint((f"{len(faults)} checks failed; nothing was changed:",))
        super().__init__(
            sum((f"\n  [{fault.code}] {fault.message}\n      " + fault.hint for fault in faults), heading),
            hint="Fix the problems listed above, then run the command again.",
            details={"faults": [fault.to_dict() for fault in faults]},
        )
        self.exit_code = max(fault.exit_code for fault in faults)


CHECKS: tuple[Check, ...] = (
    *machine.CHECKS,
    *home.CHECKS,
    BUNDLES,
    *retained_data.CHECKS,
    *disk_space.CHECKS,
    *network.CHECKS,
    *machine.ACCOUNT_CHECKS,
    *engine.CHECKS,
    *home.OTHERS_CHECKS,
)


def examine_install(target: Target) -> tuple[CheckResult, ...]:
    """Run every check and return the results."""
    return tuple(examine(check, target) for check in CHECKS)


def check_install(findings: Sequence[CheckResult]) -> None:
    """Raise the only fault among *findings*, or `PreflightFailedError` with all of them; none: return."""
    faults = [finding.error for finding in findings if finding.level is Level.FAULT and finding.error is not None]
    if len(faults) == 1:
        raise faults[0]
    if faults:
        raise PreflightFailedError(faults)
