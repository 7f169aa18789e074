"""The steps that stop and start the gateway, which applies the migrations, or that only apply the migrations."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from mosaic_gateway import __version__
from mosaic_gateway.gateway import load_bundles, open_database, prepare_schema, schema_digest
from mosaic_gateway.gateway.control import current_program, gateway_process, registered_service
from mosaic_gateway.installation import read_receipt
from mosaic_gateway.process import OTHER_HOME, disk_full_as, holder_of
from mosaic_gateway_installer.step import Step, StepId, Target

__all__ = ["LaunchStep", "SchemaStep", "StartStep", "StopStep", "is_current"]


@dataclass(frozen=True, slots=True)
class SchemaStep(Step):
    """Applies the migrations, for an installation with ``--no-start``."""

    target: Target
    id: ClassVar[StepId] = StepId.SCHEMA
    description = "Apply the schema migrations"

    def done(self) -> bool:
        """Return whether an earlier run applied exactly these migrations."""
        receipt = read_receipt(self.target.home)
        return receipt is not None and receipt.schema == schema_digest(load_bundles())

    def apply(self) -> None:
        """Apply pending migrations. Raises `DiskFullError`, and what engine and migrations raise."""
        config = self.target.config
        with disk_full_as("the migrations", config.home.path), open_database(config) as conninfo:
            prepare_schema(load_bundles(), conninfo, config.engine)


@dataclass(slots=True)
class StopStep(Step):
    """Stops a running gateway whose files are about to change; `undo`, which runs last, starts it again."""

    target: Target
    id: ClassVar[StepId] = StepId.STOP
    description = "Stop the running gateway"
    _stopped: bool = False

    def done(self) -> bool:
        """Return whether neither gateway nor supervisor is running."""
        home = self.target.home
        return holder_of(home.supervisor_lock) is None and holder_of(home.gateway_lock) is None

    def apply(self) -> None:
        """Stop the gateway."""
        self._stopped = True
        gateway_process.stop(self.target.home)

    def undo(self) -> None:
        """Start it again, with the restored settings."""
        if self._stopped:
            gateway_process.start(self.target.home)


@dataclass(slots=True)
class LaunchStep(Step):
    """Starts the gateway's process, which loads its modules and waits while the database is created.

    It exits by itself if the installer exits.
    """

    target: Target
    id: ClassVar[StepId] = StepId.LAUNCH
    description = "Load the gateway, which waits for its database"
    launched: gateway_process.Launched | None = None

    def done(self) -> bool:
        """Return whether there is nothing to load because a current gateway is running."""
        return is_current(self.target)

    def apply(self) -> None:
        """Start the process, unless a service manager does that."""
        home = self.target.home
        if registered_service(home) is not None:
            return
        self.launched = gateway_process.launch(self.target.config, current_program(home), issue_link=True)

    def undo(self) -> None:
        """Terminate the process."""
        if self.launched is not None:
            self.launched.close()


@dataclass(slots=True)
class StartStep(Step):
    """Lets the loaded gateway continue; it applies the migrations before it listens."""

    target: Target
    launch: LaunchStep
    id: ClassVar[StepId] = StepId.START
    started: gateway_process.Started | None = None

    @property
    def description(self) -> str:
        """What the step does."""
        return f"Start the gateway at {self.target.config.local_url} (applies the schema migrations)"

    @property
    def setup_url(self) -> str | None:  # type: ignore[override]
        """The link that a gateway which this run has launched has issued."""
        return self.started.setup_url if self.started is not None and self.launch.launched is not None else None

    def done(self) -> bool:
        """Return whether this version of the gateway is running with the current settings."""
        return is_current(self.target)

    def apply(self) -> None:
        """Start it, and wait until it accepts requests. Raises `DiskFullError` if the database's disk is full."""
        with disk_full_as("the start of the gateway", self.target.home.path, hint=OTHER_HOME):
            if self.launch.launched is None:
                self.started = gateway_process.start(self.target.home)
                return
            with self.launch.launched as launched:
                self.started = launched.go()

    def undo(self) -> None:
        """Stop the gateway."""
        gateway_process.stop(self.target.home)


def is_current(target: Target) -> bool:
    """Return whether this version of the gateway is running with the settings of *target*."""
    home = target.home
    state = gateway_process.state_of(home)
    holder = holder_of(home.gateway_lock)
    if not state.ready or holder is None or state.version != __version__ or not home.config_file.exists():
        return False
    began = float(holder.facts.get("began", 0))
    return state.url == target.config.url and home.config_file.stat().st_mtime < began
