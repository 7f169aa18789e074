"""Checks of the gateway: program copy, service, port, readiness."""

from __future__ import annotations

from mosaic_gateway.errors import MosaicError, PreflightError
from mosaic_gateway.gateway.control import (
    check_interpreter,
    current_program,
    gateway_process,
    recorded_service,
    registered_service,
)
from mosaic_gateway.gateway.run import listener_for
from mosaic_gateway.hint import Text, command
from mosaic_gateway.process import Request, holder_of
from mosaic_gateway_installer.checks.finding import AdviceError, Check, NotCheckedError
from mosaic_gateway_installer.checks.package import summary
from mosaic_gateway_installer.program_copy.store import altered_files
from mosaic_gateway_installer.program_copy.tree_writer import FilesAlteredError
from mosaic_gateway_installer.service.registry import drop_ins_of, enable, is_enabled, present_text
from mosaic_gateway_installer.service.unit_file import is_unchanged
from mosaic_gateway_installer.step import Target

__all__ = ["CHECKS"]


class ServiceMissingError(PreflightError):
    """The recorded service does not exist."""

    code = "SERVICE_MISSING"


class ServiceNotEnabledError(PreflightError):
    """The service is installed but not enabled: it does not start with the machine or the session."""

    code = "SERVICE_NOT_ENABLED"


class ServiceEditedError(AdviceError):
    """The unit file was changed by hand. The change belongs into a drop-in."""

    code = "SERVICE_EDITED"


def _program(target: Target) -> str:
    program = current_program(target.home)
    if program is None:
        raise NotCheckedError("the gateway runs from the installed package")
    check_interpreter(program)
    altered = altered_files(program.directory)
    if altered:
        raise FilesAlteredError(
            f"{len(altered)} file(s) of {program.directory} are missing or were changed: {summary(altered)}",
            hint="Copy them again: " + command("install") + " (restarts the gateway).",
            details={"files": altered},
        )
    return f"version {program.version} in {program.directory}, all files unchanged"


def _service(target: Target) -> Text:
    recorded = recorded_service(target.home)
    if recorded is None:
        return "none; after a reboot, run " + command("start")
    service = registered_service(target.home)
    if service is None:
        raise ServiceMissingError(
            f"{recorded.described} does not exist, or is for another home",
            hint="Register it again: " + command("install"),
        )
    if not is_enabled(service):
        raise ServiceNotEnabledError(
            f"{service.described} is not enabled",
            hint="Enable it: "
            + command("doctor", "--fix")
            + f", or {' '.join(service.systemctl)} enable {service.name}",
        )
    text = present_text(service)
    if text is not None and not is_unchanged(text):
        raise ServiceEditedError(
            f"{service.file} was edited by hand: upgrades leave it unchanged",
            hint=f"Move the changes into {drop_ins_of(service)}/, remove the file, and run " + command("install") + ".",
        )
    return service.described


def _enable(target: Target, fault: MosaicError) -> str:
    service = registered_service(target.home)
    if service is None or not isinstance(fault, ServiceNotEnabledError):
        raise fault
    broker = target.home.broker
    if service.is_for_root and broker is not None:
        broker.ask(Request.ENABLE_UNIT)
    else:
        enable(service)
    return f"enabled {service.described}"


def _port(target: Target) -> str:
    """Bind the port briefly, unless this gateway has it. Raises `PortInUseError`, `AddressUnusableError`."""
    holder = holder_of(target.home.gateway_lock)
    config = target.config
    if holder is not None:
        return f"the gateway listens on {holder.facts.get('local_url', config.local_url)}, or is starting"
    with listener_for(config.home, config.host, config.port):
        return f"port {config.port} on {config.host} is free"


def _gateway(target: Target) -> str:
    state = gateway_process.state_of(target.home)
    if not state.running:
        raise gateway_process.NotReadyError("the gateway is not running", hint="Start it: " + command("start"))
    if not state.ready:
        raise gateway_process.NotReadyError(
            f"the gateway (process {state.pid}) is running but not ready", hint="See its log: " + command("logs")
        )
    return f"ready at {state.url}"


def _start(target: Target, fault: MosaicError) -> str:
    if gateway_process.state_of(target.home, ask=False).running:
        raise fault  # it may still be starting up
    started = gateway_process.start(target.home)
    return f"started the gateway: {started.url}"


CHECKS: tuple[Check, ...] = (
    Check(id="program", run=_program),
    Check(id="service", run=_service, fix=_enable),
    Check(id="port", run=_port),
    Check(id="gateway", run=_gateway, fix=_start, needs_programs=True),
)
