"""A gateway that is stopped while its data is copied."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from mosaic_gateway.cli import Reporter
from mosaic_gateway.errors import BusyError
from mosaic_gateway.gateway.control import gateway_process
from mosaic_gateway.installation import Home
from mosaic_gateway.process import disk_full_as

__all__ = ["GatewayInForegroundError", "gateway_stopped"]


class GatewayInForegroundError(BusyError):
    """The gateway would have to be stopped, and could not be started again, because it runs in the foreground."""

    code = "GATEWAY_IN_FOREGROUND"


@contextmanager
def gateway_stopped(home: Home, report: Reporter) -> Iterator[None]:
    """Stop a gateway that runs in the background, and start it again after the block."""
    state = gateway_process.state_of(home, ask=False)
    if not state.running:
        yield
        return
    if state.supervisor is None:
        raise GatewayInForegroundError(
            f"a gateway runs in the foreground (process {state.pid}), and its database cannot be copied while it runs",
            hint="Stop it, then run the command again.",
        )
    report.begin("Stopping the gateway for the copy")
    gateway_process.stop(home)
    try:
        yield
    finally:
        report.begin("Starting the gateway again")
        with disk_full_as("starting the gateway again", home.path):
            gateway_process.start(home)
