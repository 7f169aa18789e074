"""The service manager's entry for a home, as far as starting, stopping and asking go.

The installer registers it (`mosaic_gateway_installer.service`). What the manager is asked to do is a list of commands,
so that it can be tested without one.
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

#: What a unit of ours is called; anything else in a receipt is none of ours.
NAME = re.compile(r"mosaic-gateway(-[0-9a-f]{8})?\.service|org\.mosaic-gateway(\.[0-9a-f]{8})?")
STOP_LIMIT = 90.0  # seconds; the unit's own limit is below it


class Manager(StrEnum):
    """What keeps a gateway running across failures and restarts of the machine."""

    SYSTEMD = "systemd"
    SYSTEMD_USER = "systemd-user"
    LAUNCHD = "launchd"
    LAUNCHD_AGENT = "launchd-agent"


FIELDS = {
    "manager": Field(member(Manager)),
    "name": Field(matching(NAME, "the name of a unit of mosaic-gateway")),
    "confined": Field(boolean),
    "text": Field(any_text, ""),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Service:
    """A unit: its ``name`` for the manager, whether it is confined to its home, and its ``text`` as written.

    Where its file is follows from that.
    """

    manager: Manager
    name: str
    confined: bool = True
    text: str = field(default="", repr=False)

    def to_dict(self) -> dict[str, Any]:
        """Return the JSON form, as kept in the receipt, or in root's record."""
        return {"manager": str(self.manager), "name": self.name, "confined": self.confined, "text": self.text}

    @classmethod
    def from_dict(cls, value: Any, file: Path) -> Service:
        """Return what `to_dict` gave and *file* holds. Raises RecordError."""
        return cls(**checked_record(file, value, FIELDS))

    @property
    def file(self) -> Path:
        """The unit's file."""
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
        """Whether it is the machine's, and not a user's own."""
        return self.manager in {Manager.SYSTEMD, Manager.LAUNCHD}

    @property
    def described(self) -> str:
        """The unit for people: ``systemd, user unit mosaic-gateway.service``."""
        kinds = {
            Manager.SYSTEMD: "systemd, unit",
            Manager.SYSTEMD_USER: "systemd, user unit",
            Manager.LAUNCHD: "launchd, daemon",
            Manager.LAUNCHD_AGENT: "launchd, agent",
        }
        return f"{kinds[self.manager]} {self.name}"

    @property
    def systemctl(self) -> tuple[str, ...]:
        """The words that every request to systemd begins with."""
        return ("systemctl", "--user") if self.manager is Manager.SYSTEMD_USER else ("systemctl",)

    @property
    def domain(self) -> str:
        """Where launchd keeps it."""
        return "system" if self.manager is Manager.LAUNCHD else f"gui/{os.getuid()}"

    @property
    def is_systemd(self) -> bool:
        """Whether systemd is the manager."""
        return self.manager in {Manager.SYSTEMD, Manager.SYSTEMD_USER}


def registered_service(home: Home) -> Service | None:
    """Return the service of *home*, if its file is there and is for this home. Writes nothing.

    The machine's unit stands in root's record, a user's own in the receipt; a user's manager answers that user alone.
    """
    with suppress(OSError, RecordError):
        found = recorded_service(home)
        if found is not None and is_for_home(read_regular(found.file, SMALL).decode("utf-8", "replace"), home):
            return found
    return None


def recorded_service(home: Home) -> Service | None:
    """Return the service of *home* as it is recorded, be it there or not. Raises RecordError, OSError."""
    record = read_machine_record(home.path)
    if record is not None:
        return Service.from_dict(record.unit, DIRECTORY) if record.unit is not None else None
    unit = read_record(home.receipt, {"service": Field(lambda value: value, None)})["service"]
    return Service.from_dict(unit, home.receipt) if unit is not None else None


def is_for_home(text: str, home: Home) -> bool:
    """Return whether the unit file *text* was written by us for *home*, whatever was changed in it since."""
    return home_line(home) in text.splitlines()


def home_line(home: Home) -> str:
    """Return the line by which a unit file of ours says whose it is."""
    # Two hyphens would end an XML comment.
    escaped = str(home.path).encode("unicode_escape").decode().replace("--", "-\\x2d")
    return f"# Home: {escaped}"


def start_service(home: Home, service: Service, *, timeout: float) -> None:
    """Have *service* of *home* started; systemd answers when it is ready. *timeout* in seconds.

    The machine's manager takes orders from root alone. Raises CommandFailedError, and MosaicError with its code.
    """
    if service.is_for_root and home.broker is not None:
        home.broker.ask(Request.START_UNIT, {"timeout": timeout})
    else:
        _run_all(start_commands(service), timeout)


def stop_service(home: Home, service: Service) -> None:
    """Have *service* of *home* stopped and wait for its end, also one that keeps failing. Raises as `start_service`."""
    if service.is_for_root and home.broker is not None:
        home.broker.ask(Request.STOP_UNIT)
    else:
        _run_all(stop_commands(service), STOP_LIMIT)


def start_commands(service: Service) -> Sequence[Sequence[str]]:
    """Return what starts *service*."""
    if service.is_systemd:
        return [(*service.systemctl, "start", service.name)]
    return [
        ("launchctl", "bootstrap", service.domain, str(service.file)),
        ("launchctl", "kickstart", f"{service.domain}/{service.name}"),
    ]


def stop_commands(service: Service) -> Sequence[Sequence[str]]:
    """Return what stops *service*."""
    if service.is_systemd:
        return [(*service.systemctl, "stop", service.name), (*service.systemctl, "reset-failed", service.name)]
    return [("launchctl", "bootout", f"{service.domain}/{service.name}")]


def _run_all(commands: Sequence[Sequence[str]], timeout: float) -> None:
    """Run *commands*; the one that matters is systemd's first, launchd's last: the other may say "already so"."""
    decisive = 0 if commands[0][0] == "systemctl" else len(commands) - 1
    for number, words in enumerate(commands):
        try:
            run(words, timeout=timeout)
        except CommandFailedError:
            if number == decisive:
                raise
