"""The steps that register the gateway with the service manager, and that unregister it.

User units are written here; system units are written by root's process (`service.machine_unit`).
"""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, ClassVar

from mosaic_gateway import fs, installation, process
from mosaic_gateway.engines import EngineStartError, pglite, postgres
from mosaic_gateway.gateway.control import CURRENT, registered_service
from mosaic_gateway.hint import Text, from_json
from mosaic_gateway_installer.service import registry
from mosaic_gateway_installer.service.machine_unit import UnitRequest
from mosaic_gateway_installer.service.manager_selection import can_confine, unit_name
from mosaic_gateway_installer.service.unit_file import UnitFacts, is_below_homes, launchd_job, systemd_unit
from mosaic_gateway_installer.step import Step, StepId, Target

__all__ = ["MachineServiceStep", "ServiceStep", "UnregisterStep", "service_of", "service_step"]


def service_step(target: Target, manager: installation.Manager | None) -> ServiceStep | MachineServiceStep:
    """Return the step that registers the gateway of *target* with *manager* (None: that unregisters it)."""
    home = target.home
    if home.broker is not None and home.programs is not None:
        return MachineServiceStep(target, manager)
    return ServiceStep(target, manager)


@dataclass(slots=True)
class MachineServiceStep(Step):
    """Registers the gateway with the system's *manager* through root's process; None: unregisters it."""

    target: Target
    manager: installation.Manager | None
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
        return bool(self._ask(process.Request.UNIT_STATE)["in_place"])

    def apply(self) -> None:
        """Request that the unit is written or removed. Raises MosaicError."""
        self._started = True
        answer = self._ask(process.Request.REMOVE_UNIT if self.manager is None else process.Request.WRITE_UNIT)
        self.notes += [from_json(note) for note in answer["notes"]]

    def undo(self) -> None:
        """Request that the previous unit is restored."""
        if self._started:
            self._ask(process.Request.RESTORE_UNIT)

    def _ask(self, request: process.Request) -> dict[str, Any]:
        broker = self.target.home.broker
        if broker is None:
            raise LookupError(self.id)
        return broker.ask(request, _request(self.target).to_dict())[0]


@dataclass(slots=True)
class ServiceStep(Step):
    """Registers the gateway with *manager*; None: unregisters it. ``notes`` are lines for the output."""

    target: Target
    manager: installation.Manager | None
    id: ClassVar[StepId] = StepId.SERVICE
    notes: list[Text] = field(default_factory=list)
    _started: bool = False
    _before: installation.Receipt | None = None
    _text_before: str | None = None
    _changed: installation.Service | None = None

    @property
    def description(self) -> str:
        """What the step does."""
        return _description(self.manager)

    def done(self) -> bool:
        """Return whether the unit is in place, or without *manager*, that there is none."""
        receipt = installation.read_receipt(self.target.home)
        recorded = service_of(receipt)
        if self.manager is None:
            return receipt is None or (recorded is None and receipt.service is None)
        if receipt is None or recorded is None or recorded.manager is not self.manager:
            return False
        wanted = self._unit(receipt.instance_id, confined=recorded.confined)
        return wanted == recorded and registry.is_in_place(wanted, self.target.home)

    def apply(self) -> None:
        """Record the unit in the receipt, then write it. Raises `UnitForeignError`, `ServiceFailedError`, OSError."""
        home = self.target.home
        receipt = installation.installed(home)
        recorded = service_of(receipt)
        self._started, self._before = True, receipt
        if recorded is not None and (self.manager is None or recorded.manager is not self.manager):
            self._changed, self._text_before = recorded, registry.present_text(recorded)
            self.notes += registry.unregister(recorded, home)
        if self.manager is None:
            installation.write_receipt(home, replace(receipt, service=None))
            return
        wanted = self._unit(receipt.instance_id, confined=True)
        if not can_confine(wanted, home):
            wanted = self._unit(receipt.instance_id, confined=False)
        if self._changed is None:
            self._changed, self._text_before = wanted, registry.present_text(wanted)
        installation.write_receipt(home, replace(receipt, service=wanted))
        self.notes += registry.register(wanted, home)

    def undo(self) -> None:
        """Restore the previous unit, or remove the new one."""
        if not self._started or self._before is None:
            return
        home = self.target.home
        with suppress(registry.ServiceFailedError):
            new = registered_service(home)
            if new is not None and (self._text_before is None or new != self._changed):
                registry.unregister(new, home)
            if self._changed is not None and self._text_before is not None:
                fs.make_directory(self._changed.file.parent, 0o755)
                fs.write_file(self._changed.file, self._text_before, registry.READABLE)
                registry.reload(self._changed)
        installation.write_receipt(home, self._before)

    def _unit(self, instance_id: str, *, confined: bool) -> installation.Service:
        """Return the unit with the text to write."""
        if self.manager is None:
            raise LookupError(self.id)
        target, home = self.target, self.target.home
        service = installation.Service(
            manager=self.manager, name=unit_name(self.manager, home, instance_id), confined=confined
        )
        facts = UnitFacts(
            service=service,
            home=home,
            program=home.runtime / CURRENT / "bin" / "mosaic-gateway",
            interpreter=process.interpreter(),
            account=None,
            waits_for_network=target.config.engine is installation.EngineName.SERVER,
            outside=_outside(target),
        )
        text = systemd_unit(facts) if service.is_systemd else launchd_job(facts)
        return replace(service, text=text)


@dataclass(slots=True)
class UnregisterStep(Step):
    """Unregisters the unit, for an uninstall; `undo` registers it again."""

    target: Target
    receipt: installation.Receipt
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
        self._text = registry.present_text(service)
        if service.is_for_root and home.broker is not None:
            self.notes += home.broker.ask(process.Request.REMOVE_UNIT)[0]["notes"]
        else:
            self.notes += registry.unregister(service, home)

    def undo(self) -> None:
        """Register the previous unit."""
        home, service = self.target.home, service_of(self.receipt)
        if self._text is None:
            return
        if home.broker is not None and home.programs is not None:
            home.broker.ask(process.Request.RESTORE_UNIT)
        elif service is not None:
            registry.register(replace(service, text=self._text), home)


def service_of(receipt: installation.Receipt | None) -> installation.Service | None:
    """Return the user's own service that *receipt* names."""
    return receipt.service if receipt is not None else None


def _description(manager: installation.Manager | None) -> str:
    if manager is None:
        return "Unregister the gateway from the service manager"
    kind = {
        installation.Manager.SYSTEMD: "a systemd service",
        installation.Manager.SYSTEMD_USER: "a systemd user service",
    }
    return f"Register the gateway as {kind.get(manager, 'a launchd job')}"


def _request(target: Target) -> UnitRequest:
    """Return the values of the unit that depend on the home's settings."""
    config = target.config
    configured = {
        installation.EngineName.POSTGRES: (config.postgres_bin,),
        installation.EngineName.PGLITE: (config.pglite_dir, pglite.recorded_binary(config.home)),
    }.get(config.engine, ())
    paths = tuple(path for path in configured if path is not None)
    return UnitRequest(
        waits_for_network=config.engine is installation.EngineName.SERVER,
        reads_homes=is_below_homes(*paths, *(path.resolve() for path in paths)),
        socket_outside=_outside(target) is not None,
    )


def _outside(target: Target) -> Path | None:
    """Return the parent of the directory of the database's socket, None if the socket is in the home."""
    if target.config.engine is installation.EngineName.SERVER:
        return None
    with suppress(EngineStartError):
        directory = postgres.socket_place(target.home)
        return None if directory == target.home.run else directory.parent
    return None
