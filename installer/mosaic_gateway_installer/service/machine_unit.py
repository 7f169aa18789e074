"""The system unit of an installation by root, composed in root's process from root's record.

The verb, which runs as the service account, supplies only the three values of `UnitRequest`.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from mosaic_gateway import fs
from mosaic_gateway.engines import EngineStartError, postgres
from mosaic_gateway.gateway.control import CURRENT, is_for_home
from mosaic_gateway.hint import Text
from mosaic_gateway.installation import DIRECTORY, Home, MachineRecord, Manager, Service, key_of
from mosaic_gateway.process import interpreter, is_privileged
from mosaic_gateway_installer.service import registry
from mosaic_gateway_installer.service.manager_selection import can_confine, unit_name
from mosaic_gateway_installer.service.unit_file import UnitFacts, launchd_job, systemd_unit

__all__ = ["MachineUnit", "UnitRequest", "unit_for"]

UNITS = {Manager.SYSTEMD: Path("/etc/systemd/system"), Manager.LAUNCHD: Path("/Library/LaunchDaemons")}


@dataclass(frozen=True, slots=True, kw_only=True)
class UnitRequest:
    """The values of a unit that depend on the home's settings.

    ``waits_for_network``: the database is on another machine. ``reads_homes``: the engine's programs are below home
    directories of users. ``socket_outside``: the database's socket is outside of the home, because the path of a
    socket in the home would be too long.
    """

    waits_for_network: bool
    reads_homes: bool
    socket_outside: bool

    @classmethod
    def of(cls, values: Mapping[str, Any]) -> UnitRequest:
        """Return the request with *values*, as sent by the verb. Raises KeyError."""
        return cls(**{name: values[name] is True for name in ("waits_for_network", "reads_homes", "socket_outside")})

    def to_dict(self) -> dict[str, bool]:
        """Return the values for a request."""
        return {
            "waits_for_network": self.waits_for_network,
            "reads_homes": self.reads_homes,
            "socket_outside": self.socket_outside,
        }


class MachineUnit:
    """The system unit of the installation described by *record*."""

    def __init__(self, home: Home, record: MachineRecord) -> None:
        self._home = home
        self._record = record
        self._manager = Manager.LAUNCHD if sys.platform == "darwin" else Manager.SYSTEMD
        self._recorded = Service.from_dict(record.unit, DIRECTORY) if record.unit is not None else None
        self._text_before: str | None = None

    def is_in_place(self, request: UnitRequest) -> bool:
        """Return whether the unit is in place with the current text. Raises OSError."""
        recorded = self._recorded
        if recorded is None or recorded.manager is not self._manager:
            return False
        wanted = self._composed(request, confined=recorded.confined)
        return wanted == recorded and registry.is_in_place(wanted, self._home)

    def write(self, request: UnitRequest, note: Callable[[Service], None]) -> tuple[Service, list[Text]]:
        """Write and enable the unit; return it, and lines for the output.

        *note* is called to record the unit before it is written. Raises `UnitForeignError`, `ServiceFailedError`,
        OSError.
        """
        wanted = self._composed(request, confined=True)
        if not can_confine(wanted, self._home):
            wanted = self._composed(request, confined=False)
        self._text_before = registry.present_text(wanted)
        note(wanted)
        return wanted, registry.register(wanted, self._home)

    def restore(self) -> Service | None:
        """Restore the unit as it was before `write` or `remove`; return the unit to record. Raises OSError."""
        service = Service(manager=self._manager, name=self._name())
        if self._text_before is None:
            registry.unregister(service, self._home)
            return None
        fs.make_directory(service.file.parent, 0o755)
        fs.write_file(service.file, self._text_before, registry.READABLE)
        registry.reload(service)
        registry.enable(service)
        return self._recorded

    def remove(self) -> list[str]:
        """Stop and remove the unit; return lines for the output. Raises OSError."""
        if self._recorded is None:
            return []
        self._text_before = registry.present_text(self._recorded)
        return registry.unregister(self._recorded, self._home)

    def enable(self) -> None:
        """Enable the unit. Raises `ServiceFailedError`."""
        if self._recorded is not None:
            registry.enable(self._recorded)

    def _name(self) -> str:
        return (
            self._recorded.name
            if self._recorded is not None
            else unit_name(self._manager, self._home, key_of(self._home.path))
        )

    def _composed(self, request: UnitRequest, *, confined: bool) -> Service:
        home, record = self._home, self._record
        service = Service(manager=self._manager, name=self._name(), confined=confined)
        facts = UnitFacts(
            service=service,
            home=home,
            program=home.runtime / CURRENT / "bin" / "mosaic-gateway",
            interpreter=interpreter(),
            account=record.account,
            waits_for_network=request.waits_for_network,
            privileged_port=record.port is not None and is_privileged(record.port),
            outside=_socket_parent(home) if request.socket_outside else None,
            reads_homes=request.reads_homes,
        )
        text = systemd_unit(facts) if service.is_systemd else launchd_job(facts)
        return replace(service, text=text)


def unit_for(home: Path) -> Service | None:
    """Return the system unit that an earlier version wrote for *home*, identified by its content."""
    for manager, directory in UNITS.items():
        files = sorted(directory.glob("*mosaic-gateway*")) if directory.is_dir() else []
        for file in files:
            text = file.read_text(encoding="utf-8", errors="replace") if file.is_file() else ""
            if is_for_home(text, Home(home)):
                name = file.name.removesuffix(".plist")
                return Service(manager=manager, name=name, confined="ProtectSystem=strict" in text, text=text)
    return None


def _socket_parent(home: Home) -> Path | None:
    try:
        directory = postgres.socket_place(home)
    except EngineStartError:
        return None
    return None if directory == home.run else directory.parent
