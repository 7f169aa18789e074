"""The list of the checks before an installation, and the error that reports their faults."""

from __future__ import annotations

from collections.abc import Sequence

from mosaic_gateway.errors import MosaicError, PreflightError
from mosaic_gateway.gateway.schema import load_bundles
from mosaic_gateway.hint import Hint
from mosaic_gateway_installer.checks.finding import Check, CheckResult, Level, examine
from mosaic_gateway_installer.checks.preflight import (
    account,
    disk_space,
    engine,
    home,
    machine,
    network,
    other_installations,
    retained_data,
)
from mosaic_gateway_installer.checks.preflight.target import Subject

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


def _package(_subject: Subject) -> str:
    count = sum(len(bundle.migrations) for bundle in load_bundles())
    return f"{count} migrations, every hash matches the lock"


CHECKS: tuple[Check[Subject], ...] = (
    *machine.CHECKS,
    *home.CHECKS,
    Check(id="package", run=_package),
    *retained_data.CHECKS,
    *disk_space.CHECKS,
    *network.CHECKS,
    *account.CHECKS,
    *engine.CHECKS,
    *other_installations.CHECKS,
)


def examine_install(subject: Subject) -> tuple[CheckResult, ...]:
    """Run every check and return the results."""
    return tuple(examine(check, subject) for check in CHECKS)


def check_install(findings: Sequence[CheckResult]) -> None:
    """Raise the only fault among *findings*, or `PreflightFailedError` with all of them; none: return."""
    faults = [finding.error for finding in findings if finding.level is Level.FAULT and finding.error is not None]
    if len(faults) == 1:
        raise faults[0]
    if faults:
        raise PreflightFailedError(faults)
