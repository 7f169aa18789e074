"""The service manager's unit of an installation, as the receipt and root's record have it."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Any

from mosaic_gateway.fs.record_fields import Field, any_text, boolean, checked_record, matching, member
from mosaic_gateway.process.environment import config_directory, process_environment

__all__ = ["Manager", "Service"]

#: Unit names of mosaic-gateway; any other name in a receipt is invalid.
NAME = re.compile(r"mosaic-gateway(-[0-9a-f]{8})?\.service|org\.mosaic-gateway(\.[0-9a-f]{8})?")


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
