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

#: What a unit of ours is called; anything else in a receipt is none of ours.
NAME = re.compile(r"mosaic-gateway(-[0-9a-f]{8})?\.service|org\.mosaic-gateway(\.[0-9a-f]{8})?")


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
