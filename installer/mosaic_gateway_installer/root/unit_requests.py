"""The requests about the home's unit of systemd or launchd."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from mosaic_gateway.hint import to_json
from mosaic_gateway.installation import DIRECTORY, Home
from mosaic_gateway.process import Reply, Request
from mosaic_gateway_installer.root.authority import Answer, Authority, NotGrantedError

if TYPE_CHECKING:
    from mosaic_gateway.installation import Service
    from mosaic_gateway_installer.service.machine_unit import MachineUnit

__all__ = ["UnitRequests"]

MAX_START_TIME = 3600.0  # seconds


class UnitRequests:
    """Answers the requests about the unit that root's record names."""

    def __init__(self, authority: Authority) -> None:
        self._authority = authority
        self._unit: MachineUnit | None = None

    @property
    def answers(self) -> Mapping[Request, Answer]:
        """The requests, and what answers them."""
        return {
            Request.SERVICE_MANAGER: self._service_manager,
            Request.UNIT_STATE: self._unit_state,
            Request.WRITE_UNIT: self._write_unit,
            Request.RESTORE_UNIT: self._restore_unit,
            Request.REMOVE_UNIT: self._remove_unit,
            Request.ENABLE_UNIT: self._enable_unit,
            Request.START_UNIT: self._start_unit,
            Request.STOP_UNIT: self._stop_unit,
        }

    def machine_unit(self) -> MachineUnit:
        """Return the unit of the home. Raises `NotGrantedError`."""
        from mosaic_gateway_installer.service.machine_unit import MachineUnit

        if self._unit is None:
            self._unit = MachineUnit(self._authority.home(), self._authority.granted())
        return self._unit

    def _service_manager(self, _values: Mapping[str, Any], _descriptors: Sequence[int]) -> Reply:
        from mosaic_gateway_installer.service.manager_selection import machine_manager

        if self._authority.record is None:
            return {"manager": None, "reason": "root did not install it"}, []
        selected = machine_manager(self._authority.account)
        return {"manager": selected.manager, "reason": selected.reason}, []

    def _unit_state(self, values: Mapping[str, Any], _descriptors: Sequence[int]) -> Reply:
        from mosaic_gateway_installer.service.machine_unit import UnitRequest

        return {"in_place": self.machine_unit().is_in_place(UnitRequest.of(values))}, []

    def _write_unit(self, values: Mapping[str, Any], _descriptors: Sequence[int]) -> Reply:
        from mosaic_gateway_installer.service.machine_unit import UnitRequest

        unit = self.machine_unit()
        service, notes = unit.write(
            UnitRequest.of(values), lambda planned: self._authority.update_record(unit=planned.to_dict())
        )
        self._authority.update_record(unit=service.to_dict())
        return {"notes": [to_json(note) for note in notes]}, []

    def _restore_unit(self, _values: Mapping[str, Any], _descriptors: Sequence[int]) -> Reply:
        before = self.machine_unit().restore()
        self._authority.update_record(unit=before.to_dict() if before is not None else None)
        return {}, []

    def _remove_unit(self, _values: Mapping[str, Any], _descriptors: Sequence[int]) -> Reply:
        notes = self.machine_unit().remove()
        self._authority.update_record(unit=None)
        return {"notes": [to_json(note) for note in notes]}, []

    def _enable_unit(self, _values: Mapping[str, Any], _descriptors: Sequence[int]) -> Reply:
        self.machine_unit().enable()
        return {}, []

    def _service(self) -> Service:
        """Return the system unit of the home. Installations before 0.2.0 have no record of it, only the unit file."""
        from mosaic_gateway.installation import Service
        from mosaic_gateway_installer.service.machine_unit import unit_for

        if self._authority.record is not None and self._authority.record.unit is not None:
            return Service.from_dict(self._authority.record.unit, DIRECTORY)
        service = unit_for(self._authority.path)
        if service is None:
            raise NotGrantedError(f"the machine has no unit for {self._authority.path}")
        return service

    def _start_unit(self, values: Mapping[str, Any], _descriptors: Sequence[int]) -> Reply:
        from mosaic_gateway.gateway.control import start_service

        timeout = min(max(float(values["timeout"]), 1.0), MAX_START_TIME)
        start_service(Home(self._authority.path), self._service(), timeout=timeout)
        return {}, []

    def _stop_unit(self, _values: Mapping[str, Any], _descriptors: Sequence[int]) -> Reply:
        from mosaic_gateway.gateway.control import stop_service

        stop_service(Home(self._authority.path), self._service())
        return {}, []
