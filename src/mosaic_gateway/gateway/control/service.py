"""The service unit of a home: look-up, start and stop.

The installer registers it (`mosaic_gateway_installer.service`). The commands for the service manager are returned as
lists, so that they can be tested without one.
"""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Any

from mosaic_gateway.config import config_directory, process_environment
from mosaic_gateway.fs.files import SMALL, read_regular
from mosaic_gateway.fs.record_fields import (
    Field,
    RecordError,
    any_text,
    boolean,
    checked_record,
    matching,
    member,
    read_record,
)
from mosaic_gateway.installation.layout import Home
from mosaic_gateway.installation.machine_record import DIRECTORY, read_machine_record
from mosaic_gateway.process.command import CommandFailedError, run
from mosaic_gateway.process.root_requests import Request

__all__ = [
    "Manager",
    "Service",
    "home_line",
    "is_for_home",
    "recorded_service",
    "registered_service",
    "start_commands",
    "start_service",
    "stop_commands",
    "stop_service",
]

#: Unit names of mosaic-gateway; any other name in a receipt is invalid.
NAME = re.compile(r"mosaic-gateway(-[0-9a-f]{8})?\.service|org\.mosaic-gateway(\.[0-9a-f]{8})?")
STOP_LIMIT = 90.0  # seconds; above the unit's own limit


class Manager(StrEnum):
    """A service manager, which restarts a gateway after a crash or a reboot."""

    SYSTEMD = "systemd"
    SYSTEMD_USER = "systemd-user"
    LAUNCHD = "launchd"
    LAUNCHD_AGENT = "launchd-agent"


FIELDS = {
    "manager": Field(member(Manager)),
    "name": Field(matching(NAME, "the name of a mosaic-gateway unit")),
    "confined": Field(boolean),
    "text": Field(any_text, ""),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Service:
    """A service unit: its ``name``, whether it is confined to its home, and the ``text`` of its file.

    Manager and name determine the path of the file.
    """

    manager: Manager
    name: str
    confined: bool = True
    text: str = field(default="", repr=False)

    def to_dict(self) -> dict[str, Any]:
        """Return the JSON form, as stored in the receipt or in root's record."""
        return {"manager": str(self.manager), "name": self.name, "confined": self.confined, "text": self.text}

    @classmethod
    def from_dict(cls, value: Any, file: Path) -> Service:
        """Return the service from the JSON form *value*, read from *file*. Raises RecordError."""
        return cls(**checked_record(file, value, FIELDS))

    @property
    def file(self) -> Path:
        """The path of the unit file."""
        match self.manager:
            case Manager.SYSTEMD:
                return Path("/etc/systemd/system", self.name)
            case Manager.SYSTEMD_USER:
                return config_directory(process_environment()) / "systemd" / "user" / self.name
            case Manager.LAUNCHD:
                return Path("/Library/LaunchDaemons", f"{self.name}.plist")
            case Manager.LAUNCHD_AGENT:
                return Path.home() / "Library" / "LaunchAgents" / f"{self.name}.plist"

    @property
    def is_for_root(self) -> bool:
        """Whether it is a system unit, as opposed to a user unit."""
        return self.manager in {Manager.SYSTEMD, Manager.LAUNCHD}

    @property
    def described(self) -> str:
        """The display form: ``systemd, user unit mosaic-gateway.service``."""
        kinds = {
            Manager.SYSTEMD: "systemd, unit",
            Manager.SYSTEMD_USER: "systemd, user unit",
            Manager.LAUNCHD: "launchd, daemon",
            Manager.LAUNCHD_AGENT: "launchd, agent",
        }
        return f"{kinds[self.manager]} {self.name}"

    @property
    def systemctl(self) -> tuple[str, ...]:
        """The first words of every systemctl command."""
        return ("systemctl", "--user") if self.manager is Manager.SYSTEMD_USER else ("systemctl",)

    @property
    def domain(self) -> str:
        """The launchd domain target."""
        return "system" if self.manager is Manager.LAUNCHD else f"gui/{os.getuid()}"

    @property
    def is_systemd(self) -> bool:
        """Whether systemd is the manager."""
        return self.manager in {Manager.SYSTEMD, Manager.SYSTEMD_USER}


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
    unit = read_record(home.receipt, {"service": Field(lambda value: value, None)})["service"]
    return Service.from_dict(unit, home.receipt) if unit is not None else None


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
