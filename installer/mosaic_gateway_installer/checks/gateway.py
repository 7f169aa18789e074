"""The gateway: does it run, is it ready, and if not, does somebody else have its port?"""

from __future__ import annotations

from mosaic_gateway.errors import MosaicError, PreflightError
from mosaic_gateway.gateway import control
from mosaic_gateway.process.lockfile import holder_of
from mosaic_gateway.process.ports import bind_listener
from mosaic_gateway_installer.checks.patient import Patient
from mosaic_gateway_installer.findings import Check

__all__ = ["CHECKS"]


class NotRunningError(PreflightError):
    """The gateway does not run or is not ready."""

    code = "NOT_READY"


def _port(patient: Patient) -> str:
    """Take the port for an instant, unless our gateway has it. Raises `PortTakenError`, `AddressUnusableError`."""
    holder = holder_of(patient.home.gateway_lock)
    config = patient.config
    if holder is not None:
        return f"the gateway has {holder.facts.get('local_url', config.local_url)}, or is about to"
    with bind_listener(config.host, config.port):
        return f"port {config.port} on {config.host} is free for the gateway"


def _gateway(patient: Patient) -> str:
    state = control.state_of(patient.home)
    if not state.running:
        raise NotRunningError("the gateway does not run", hint="Start it: mosaic-gateway start")
    if not state.ready:
        raise NotRunningError(
            f"the gateway (process {state.pid}) runs but is not ready", hint="Look at its log: mosaic-gateway logs"
        )
    return f"ready at {state.url}"


def _start(patient: Patient, fault: MosaicError) -> str:
    if control.state_of(patient.home, ask=False).running:
        raise fault  # it may be at work on its start: restarting it could do harm
    started = control.start(patient.home)
    return f"started the gateway: {started.url}"


CHECKS: tuple[Check[Patient], ...] = (
    Check(id="port", run=_port),
    Check(id="gateway", run=_gateway, fix=_start),
)
