"""The gateway: does it run, and is it ready?"""

from __future__ import annotations

from mosaic_gateway.errors import PreflightError
from mosaic_gateway.gateway.control import state_of
from mosaic_gateway_installer.checks.patient import Patient
from mosaic_gateway_installer.findings import Check

__all__ = ["CHECKS"]


class NotRunningError(PreflightError):
    """The gateway does not run or is not ready."""

    code = "NOT_READY"


def _gateway(patient: Patient) -> str:
    state = state_of(patient.home)
    if not state.running:
        raise NotRunningError("the gateway does not run", hint="Start it: mosaic-gateway start")
    if not state.ready:
        raise NotRunningError(
            f"the gateway (process {state.pid}) runs but is not ready", hint="Look at its log: mosaic-gateway logs"
        )
    return f"ready at {state.url}"


CHECKS: tuple[Check[Patient], ...] = (Check(id="gateway", run=_gateway),)
