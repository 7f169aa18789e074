"""The steps that register the gateway with the service manager, and that unregister it.

User units are written here; system units are written by root's process (`service.machine_unit`).
"""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, ClassVar

from mosaic_gateway.engines.base import EngineStartError
from mosaic_gateway.engines.pglite.runtime import recorded_binary
from mosaic_gateway.engines.postgres.sockets import FALLBACK, socket_place
from mosaic_gateway.fs.files import make_directory, write_file
from mosaic_gateway.gateway.control.program import CURRENT
from mosaic_gateway.gateway.control.service import registered_service
from mosaic_gateway.hint import Text, from_json
from mosaic_gateway.installation.engine_name import EngineName
from mosaic_gateway.installation.receipt import Receipt, installed, read_receipt, write_receipt
from mosaic_gateway.installation.service_record import Manager, Service
from mosaic_gateway.process.access import interpreter
from mosaic_gateway.process.environment import process_environment, runtime_directory
from mosaic_gateway.process.root_requests import Request
from mosaic_gateway_installer.service.launchd import launchd_job
from mosaic_gateway_installer.service.machine_unit import UnitRequest
from mosaic_gateway_installer.service.manager_selection import can_confine, unit_name
from mosaic_gateway_installer.service.registry import (
    READABLE,
    ServiceFailedError,
    is_in_place,
    present_text,
    register,
    reload,
    unregister,
)
from mosaic_gateway_installer.service.systemd import is_below_homes, systemd_unit
from mosaic_gateway_installer.service.unit_facts import UnitFacts
from mosaic_gateway_installer.step import Step, StepId, Target

__all__ = ["MachineServiceStep", "ServiceStep", "UnregisterStep", "service_of", "service_step"]


def service_step(target: Target, manager: Manager | None) -> ServiceStep | MachineServiceStep:
    """Return the step that registers the gateway of *target* with *manager* (None: that unregisters it)."""
    home = target.home
    if home.broker is not None and home.programs is not None:
        return MachineServiceStep(target, manager)
    return ServiceStep(target, manager)


@dataclass(slots=True)
class MachineServiceStep(Step):
    """Registers the gateway with the system's *manager* through root's process; None: unregisters it."""

    target: Target
    manager: Manager | None
    id: ClassVar[StepId] = StepId.SERVICE
    notes: list[Text] = field(default_factory=list)
    _started: bool = False

    @property
    def description(self) -> str:
        """What the step does."""
        return _description(self.manager)

    def done(self) -> bool:
        """Return whether the unit is in place, or without *manager*, that there is none."""
        if self.manager is None:
            return registered_service(self.target.home) is None
        return bool(self._ask(Request.UNIT_STATE)["in_place"])

    def apply(self) -> None:
        """Request that the unit is written or removed. Raises MosaicError."""
        self._started = True
        answer = self._ask(Request.REMOVE_UNIT if self.manager is None else Request.WRITE_UNIT)
        self.notes += [from_json(note) for note in answer["notes"]]

    def undo(self) -> None:
        """Request that the previous unit is restored."""
        if self._started:
            self._ask(Request.RESTORE_UNIT)

    def _ask(self, request: Request) -> dict[str, Any]:
        broker = self.target.home.broker
        if broker is None:
            raise LookupError(self.id)
        return broker.ask(request, _request(self.target).to_dict())[0]


@dataclass(slots=True)
class ServiceStep(Step):
    """Registers the gateway with *manager*; None: unregisters it. ``notes`` are lines for the output."""

    target: Target
    manager: Manager | None
    id: ClassVar[StepId] = StepId.SERVICE
    notes: list[Text] = field(default_factory=list)
    _started: bool = False
    _before: Receipt | None = None
    _text_before: str | None = None
    _changed: Service | None = None

    @property
    def description(self) -> str:
        """What the step does."""
        return _description(self.manager)

    def done(self) -> bool:
        """Return whether the unit is in place, or without *manager*, that there is none."""
        receipt = read_receipt(self.target.home)
        recorded = service_of(receipt)
        if self.manager is None:
            return receipt is None or (recorded is None and receipt.service is None)
        if receipt is None or recorded is None or recorded.manager is not self.manager:
            return False
        wanted = self._unit(receipt.instance_id, confined=recorded.confined)
        return wanted == recorded and is_in_place(wanted, self.target.home)

    def apply(self) -> None:
        """Record the unit in the receipt, then write it. Raises `UnitForeignError`, `ServiceFailedError`, OSError."""
        home = self.target.home
        receipt = installed(home)
        recorded = service_of(receipt)
        self._started, self._before = True, receipt
        if recorded is not None and (self.manager is None or recorded.manager is not self.manager):
            self._changed, self._text_before = recorded, present_text(recorded)
            self.notes += unregister(recorded, home)
        if self.manager is None:
            write_receipt(home, replace(receipt, service=None))
            return
        wanted = self._unit(receipt.instance_id, confined=True)
        if not can_confine(wanted, home):
            wanted = self._unit(receipt.instance_id, confined=False)
        if self._changed is None:
            self._changed, self._text_before = wanted, present_text(wanted)
        write_receipt(home, replace(receipt, service=wanted))
        self.notes += register(wanted, home)

    def undo(self) -> None:
        """Restore the previous unit, or remove the new one."""
        if not self._started or self._before is None:
            return
        home = self.target.home
        with suppress(ServiceFailedError):
            new = registered_service(home)
            if new is not None and (self._text_before is None or new != self._changed):
                unregister(new, home)
            if self._changed is not None and self._text_before is not None:
                make_directory(self._changed.file.parent, 0o755)
                write_file(self._changed.file, self._text_before, READABLE)
                reload(self._changed)
        write_receipt(home, self._before)

    def _unit(self, instance_id: str, *, confined: bool) -> Service:
        """Return the unit with the text to write."""
        if self.manager is None:
            raise LookupError(self.id)
        target, home = self.target, self.target.home
        service = Service(manager=self.manager, name=unit_name(self.manager, home, instance_id), confined=confined)
        facts = UnitFacts(
            service=service,
            home=home,
            program=home.runtime / CURRENT / "bin" / "mosaic-gateway",
            interpreter=interpreter(),
            account=None,
            waits_for_network=target.config.engine is EngineName.SERVER,
            outside=_outside(target),
        )
        text = systemd_unit(facts) if service.is_systemd else launchd_job(facts)
        return replace(service, text=text)


@dataclass(slots=True)
class UnregisterStep(Step):
    """Unregisters the unit, for an uninstall; `undo` registers it again."""

    target: Target
    receipt: Receipt
    id: ClassVar[StepId] = StepId.UNREGISTER
    notes: list[Text] = field(default_factory=list)
    _text: str | None = None

    @property
    def description(self) -> str:
        """What the step does."""
        return _description(None)

    def done(self) -> bool:
        """Return whether this home has no registered unit."""
        return registered_service(self.target.home) is None

    def apply(self) -> None:
        """Disable it and remove its file. Raises MosaicError, OSError."""
        home = self.target.home
        service = registered_service(home)
        if service is None:
            return
        self._text = present_text(service)
        if service.is_for_root and home.broker is not None:
            self.notes += home.broker.ask(Request.REMOVE_UNIT)[0]["notes"]
        else:
            self.notes += unregister(service, home)

    def undo(self) -> None:
        """Register the previous unit."""
        home, service = self.target.home, service_of(self.receipt)
        if self._text is None:
            return
        if home.broker is not None and home.programs is not None:
            home.broker.ask(Request.RESTORE_UNIT)
        elif service is not None:
            register(replace(service, text=self._text), home)


def service_of(receipt: Receipt | None) -> Service | None:
    """Return the user's own service that *receipt* names."""
    return receipt.service if receipt is not None else None


def _description(manager: Manager | None) -> str:
    if manager is None:
        return "Unregister the gateway from the service manager"
    kind = {Manager.SYSTEMD: "a systemd service", Manager.SYSTEMD_USER: "a systemd user service"}
    return f"Register the gateway as {kind.get(manager, 'a launchd job')}"


def _request(target: Target) -> UnitRequest:
    """Return the values of the unit that depend on the home's settings."""
    config = target.config
    configured = {
        EngineName.POSTGRES: (config.postgres_bin,),
        EngineName.PGLITE: (config.pglite_dir, recorded_binary(config.home)),
    }.get(config.engine, ())
    paths = tuple(path for path in configured if path is not None)
    return UnitRequest(
        waits_for_network=config.engine is EngineName.SERVER,
        reads_homes=is_below_homes(*paths, *(path.resolve() for path in paths)),
        socket_outside=_outside(target) is not None,
    )


def _outside(target: Target) -> Path | None:
    """Return the parent of the directory of the database's socket, None if the socket is in the home."""
    if target.config.engine is EngineName.SERVER:
        return None
    fallback = runtime_directory(process_environment()) if target.home.programs is None else FALLBACK
    with suppress(EngineStartError):
        directory = socket_place(target.home, fallback)
        return None if directory == target.home.run else directory.parent
    return None
