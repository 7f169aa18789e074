"""The first steps of an upgrade, which do not change the data."""

from __future__ import annotations

import time
from contextlib import closing, suppress
from dataclasses import dataclass
from http import HTTPStatus
from typing import ClassVar

import psycopg

from mosaic_gateway import __version__
from mosaic_gateway.engines import connect, postgres
from mosaic_gateway.gateway.control import gateway_process, read_program
from mosaic_gateway.installation import Home, Phase, UpgradeMark, read_mark, remove_mark, write_mark
from mosaic_gateway_installer.backup.creation import copy_data_ahead
from mosaic_gateway_installer.backup.stored_backups import backups_of, remove_unfinished_backups
from mosaic_gateway_installer.program_copy.home_programs import programs_of
from mosaic_gateway_installer.program_copy.store import program_copies
from mosaic_gateway_installer.step import Step, StepId
from mosaic_gateway_installer.upgrade.running_upgrade import Upgrade

__all__ = ["CopyAheadStep", "LaunchNewStep", "MarkStep", "StageProgramStep", "StopOldStep"]

APPLICATION = "mosaic-gateway upgrade"


@dataclass(slots=True)
class StageProgramStep(Step):
    """Copies the new program beside the old one, while the old one serves."""

    upgrade: Upgrade
    id: ClassVar[StepId] = StepId.PROGRAM
    _existing: tuple[str, ...] | None = None

    @property
    def description(self) -> str:
        """What the step does."""
        return f"Copy version {__version__} of the gateway into {self.upgrade.target.home.runtime}"

    def done(self) -> bool:
        """Return whether the program copy exists."""
        return bool(self.upgrade.new_program)

    def apply(self) -> None:
        """Copy the program and fsync it: the upgrade must be able to continue with it after a power failure."""
        target = self.upgrade.target
        self._existing = tuple(path.name for path in program_copies(target.home))
        self.upgrade.new_program = programs_of(target.home).place_gateway(durable=True)

    def undo(self) -> None:
        """Remove the new program copy."""
        if self._existing is not None:
            home = self.upgrade.target.home
            programs_of(home).remove([path.name for path in program_copies(home) if path.name not in self._existing])


@dataclass(slots=True)
class CopyAheadStep(Step):
    """Copies the data while the old gateway serves, so that little is left to copy during the downtime."""

    upgrade: Upgrade
    id: ClassVar[StepId] = StepId.COPY

    @property
    def description(self) -> str:
        """What the step does."""
        return f"Copy the data ahead, while version {self.upgrade.receipt.version} serves"

    def apply(self) -> None:
        """Copy the data, between two checkpoints. Raises `DiskFullError`."""
        upgrade, target = self.upgrade, self.upgrade.target
        _checkpoint(target.home)
        upgrade.ahead = copy_data_ahead(
            target.home, upgrade.receipt, target.config.engine, backups_of(target.home),
            upgrade.report,
        )  # fmt: skip
        _checkpoint(target.home)

    def undo(self) -> None:
        """Remove the copy."""
        remove_unfinished_backups(self.upgrade.target.home)


@dataclass(slots=True)
class MarkStep(Step):
    """Writes the upgrade mark: an upgrade is in progress, and the state before it."""

    upgrade: Upgrade
    id: ClassVar[StepId] = StepId.MARK
    description = "Record the present state, for a rollback"

    def done(self) -> bool:
        """Return whether the mark of an upgrade to this program exists already."""
        mark = read_mark(self.upgrade.target.home)
        return mark is not None and mark.target_program == self.upgrade.new_program

    def apply(self) -> None:
        """Write the mark."""
        upgrade, home = self.upgrade, self.upgrade.target.home
        state = gateway_process.state_of(home)
        mark = UpgradeMark(
            phase=Phase.PREPARED,
            source_version=upgrade.receipt.version,
            source_program=upgrade.source_program,
            target_version=__version__,
            target_program=upgrade.new_program,
            ran=state.running or state.supervisor is not None,
            needs_setup=_query_needs_setup(state),
        )
        write_mark(home, mark)

    def undo(self) -> None:
        """Remove the mark."""
        remove_mark(self.upgrade.target.home)


@dataclass(slots=True)
class StopOldStep(Step):
    """Stops the old gateway; when the steps are undone, this one starts it again after all others."""

    upgrade: Upgrade
    id: ClassVar[StepId] = StepId.STOP
    _stopped: bool = False

    @property
    def description(self) -> str:
        """What the step does."""
        return f"Stop version {self.upgrade.receipt.version}"

    def done(self) -> bool:
        """Return whether no gateway and no supervisor is running."""
        state = gateway_process.state_of(self.upgrade.target.home, ask=False)
        return not state.running and state.supervisor is None

    def apply(self) -> None:
        """Stop the old gateway."""
        self._stopped = True
        self.upgrade.stopped_at = time.monotonic()
        gateway_process.stop(self.upgrade.target.home)

    def undo(self) -> None:
        """Start the old gateway again."""
        if self._stopped:
            gateway_process.start(self.upgrade.target.home)


@dataclass(slots=True)
class LaunchNewStep(Step):
    """Starts the new gateway's process while the data is copied; it exits if the installer does."""

    upgrade: Upgrade
    id: ClassVar[StepId] = StepId.LAUNCH
    description = "Load the new gateway, which waits for its database"

    def apply(self) -> None:
        """Start the process."""
        target = self.upgrade.target
        program = read_program(target.home.runtime / self.upgrade.new_program)
        self.upgrade.launched = gateway_process.launch(target.config, program, tethered=True)

    def undo(self) -> None:
        """Terminate the process."""
        if self.upgrade.launched is not None:
            self.upgrade.launched.close()


def _checkpoint(home: Home) -> None:
    """Request a checkpoint of a running PostgreSQL, so that more is copied ahead and the shutdown is fast."""
    conninfo = postgres.running_conninfo(home)
    if conninfo is not None:
        with suppress(psycopg.Error), closing(connect(conninfo, application_name=APPLICATION)) as connection:
            connection.execute("CHECKPOINT")


def _query_needs_setup(state: gateway_process.GatewayState) -> bool | None:
    """Return whether the running gateway still needs its first admin, None if it does not answer."""
    from mosaic_gateway.gateway import NoAnswerError, ask

    if state.local_url is None:
        return None
    with suppress(NoAnswerError):
        status, body = ask(state.local_url, "/api/bootstrap/status")
        if status == HTTPStatus.OK and isinstance(body, dict) and isinstance(body.get("needsSetup"), bool):
            return bool(body["needsSetup"])
    return None
