"""The service unit of a home: look-up, start and stop.

The installer registers it (`mosaic_gateway_installer.service`). The commands for the service manager are returned as
lists, so that they can be tested without one.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress

from mosaic_gateway.fs.files import SMALL, read_regular
from mosaic_gateway.fs.record_fields import (
    RecordError,
)
from mosaic_gateway.installation.layout import Home
from mosaic_gateway.installation.machine_record import DIRECTORY, read_machine_record
from mosaic_gateway.installation.receipt import read_receipt
from mosaic_gateway.installation.service_record import Service
from mosaic_gateway.process.command import CommandFailedError, run
from mosaic_gateway.process.root_requests import Request

__all__ = [
    "home_line",
    "is_for_home",
    "recorded_service",
    "registered_service",
    "start_commands",
    "start_service",
    "stop_commands",
    "stop_service",
]

STOP_LIMIT = 90.0  # seconds; above the unit's own limit


def registered_service(home: Home) -> Service | None:
    """Return the service of *home* if its unit file exists and is for this home. Writes nothing.

    A system unit is recorded in root's record, a user unit in the receipt.
    """
    with suppress(OSError, RecordError):
        service = recorded_service(home)
        if service is not None and is_for_home(read_regular(service.file, SMALL).decode("utf-8", "replace"), home):
            return service
    return None


def recorded_service(home: Home) -> Service | None:
    """Return the recorded service of *home*, whether its unit file exists or not. Raises RecordError, OSError."""
    record = read_machine_record(home.path)
    if record is not None:
        return Service.from_dict(record.unit, DIRECTORY) if record.unit is not None else None
    receipt = read_receipt(home)
    return receipt.service if receipt is not None else None


def is_for_home(text: str, home: Home) -> bool:
    """Return whether the unit file *text* was written by mosaic-gateway for *home*, possibly edited since."""
    return home_line(home) in text.splitlines()


def home_line(home: Home) -> str:
    """Return the line that identifies *home* in its unit file."""
    # In a launchd plist the line is in an XML comment, which must not contain two hyphens.
    escaped = str(home.path).encode("unicode_escape").decode().replace("--", "-\\x2d")
    return f"# Home: {escaped}"


def start_service(home: Home, service: Service, *, timeout: float) -> None:
    """Start *service* of *home*; under systemd, return when it is ready. *timeout* in seconds.

    A system unit is started by root's process. Raises CommandFailedError, or MosaicError with the same code.
    """
    if service.is_for_root and home.broker is not None:
        home.broker.ask(Request.START_UNIT, {"timeout": timeout})
    else:
        _run_all(start_commands(service), timeout)


def stop_service(home: Home, service: Service) -> None:
    """Stop *service* of *home*, also a failed one, and wait until it has exited. Raises as `start_service`."""
    if service.is_for_root and home.broker is not None:
        home.broker.ask(Request.STOP_UNIT)
    else:
        _run_all(stop_commands(service), STOP_LIMIT)


def start_commands(service: Service) -> Sequence[Sequence[str]]:
    """Return the commands that start *service*."""
    if service.is_systemd:
        return [(*service.systemctl, "start", service.name)]
    return [
        ("launchctl", "bootstrap", service.domain, str(service.file)),
        ("launchctl", "kickstart", f"{service.domain}/{service.name}"),
    ]


def stop_commands(service: Service) -> Sequence[Sequence[str]]:
    """Return the commands that stop *service*."""
    if service.is_systemd:
        return [(*service.systemctl, "stop", service.name), (*service.systemctl, "reset-failed", service.name)]
    return [("launchctl", "bootout", f"{service.domain}/{service.name}")]


def _run_all(commands: Sequence[Sequence[str]], timeout: float) -> None:
    """Run *commands*. Raise only if systemd's first or launchd's last fails: the others may have nothing to do."""
    decisive = 0 if commands[0][0] == "systemctl" else len(commands) - 1
    for number, words in enumerate(commands):
        try:
            run(words, timeout=timeout)
        except CommandFailedError:
            if number == decisive:
                raise
