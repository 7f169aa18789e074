"""Start and stop of the gateway of a home, from outside its process."""

from __future__ import annotations

import time
from contextlib import suppress

from mosaic_gateway import installation
from mosaic_gateway.config import load_config
from mosaic_gateway.errors import MosaicError, PreflightError
from mosaic_gateway.gateway.control.gateway_state import GatewayState, state_of
from mosaic_gateway.gateway.control.launch import (
    PAUSE,
    START_LIMIT,
    STOP_LIMIT,
    Launched,
    Started,
    launch,
    start_failed,
)
from mosaic_gateway.gateway.control.program import current_program, refuse_other_version
from mosaic_gateway.gateway.control.service import registered_service, start_service, stop_service
from mosaic_gateway.gateway.control.service_notice import forget_failure, read_failure
from mosaic_gateway.process.account import check_owner
from mosaic_gateway.process.command import CommandFailedError
from mosaic_gateway.process.environment import process_environment
from mosaic_gateway.process.logfile import size_of
from mosaic_gateway.process.root_requests import Request
from mosaic_gateway.process.termination import end_holder

__all__ = ["GatewayState", "Launched", "NotReadyError", "Started", "launch", "start", "state_of", "stop"]


class NotReadyError(PreflightError):
    """The gateway is not running or not ready."""

    code = "NOT_READY"


def start(home: installation.Home, *, timeout: float = START_LIMIT) -> Started:
    """Start the gateway in the background and return when it accepts requests.

    Raises `StartupFailedError` with the gateway's own error, `GatewayStartError`, HomeOwnerError and HomeLayoutError;
    after an error no gateway runs.
    """
    installation.instance_id(home)
    check_owner(home.path)
    installation.check_layout(home)
    state = state_of(home, ask=False)
    if state.running and state.url is not None and state.pid is not None:
        return Started(url=state.url, pid=state.pid, already=True)
    installation.refuse_beside_upgrade(home)
    installation.check_may_start(home, upgrading=False)
    service = registered_service(home)
    if service is not None:
        return _start_service(home, service, timeout)
    config = load_config(home, flags={}, environ=process_environment())
    program = current_program(home)
    if program is None:
        refuse_other_version(home)
    with launch(config, program) as launched:
        return launched.go(timeout)


def _start_service(home: installation.Home, service: installation.Service, timeout: float) -> Started:
    """Start the gateway through the service manager; after a failure, stop the unit so that it is not retried."""
    deadline = time.monotonic() + timeout
    log_size = size_of(home.gateway_log)
    forget_failure(home)
    try:
        start_service(home, service, timeout=timeout)
        while time.monotonic() < deadline:
            state = state_of(home, ask=False)
            if state.url is not None and state.pid is not None:
                return Started(url=state.url, pid=state.pid, already=False)
            time.sleep(PAUSE)
        reason = f"it was not ready within {timeout:g} s"
    except MosaicError as error:  # compared by code: root's process may have run the command
        if error.code != CommandFailedError.code:
            raise
        reason = error.message
    with suppress(MosaicError):
        stop_service(home, service)
    failure = read_failure(home)
    if failure is not None:
        raise failure
    raise start_failed(home, f"{service.described} did not start: {reason}", log_size)


def stop(home: installation.Home, *, timeout: float = STOP_LIMIT) -> int | None:
    """Stop the gateway of *home*, whether it runs in the background or the foreground, and wait until it has exited.

    Returns the pid of the stopped process, None if none ran. Raises `StopTimeoutError`, `HomeLayoutError`.
    """
    installation.check_run_directory(home)
    before = state_of(home, ask=False).pid
    service = registered_service(home)
    if service is not None:
        with suppress(MosaicError):  # not loaded, or no manager: the processes are stopped below anyway
            stop_service(home, service)
    broker = home.broker
    end_as_root = None if broker is None else lambda: broker.ask(Request.END_SUPERVISOR)
    supervisor = end_holder(home.supervisor_lock, timeout=timeout, end_as_root=end_as_root)
    gateway = end_holder(home.gateway_lock, timeout=timeout)
    return supervisor or gateway or before
