"""The steps that install PostgreSQL's programs, create the database cluster, and upgrade it to a new major version.

The last one uses `upgrade.new_cluster`.
"""

from __future__ import annotations

import shutil
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from mosaic_gateway.engines import RuntimeMissingError, postgres
from mosaic_gateway.process import disk_full_as, process_environment, runtime_directory
from mosaic_gateway_installer.backup.database_at_rest import database_at_rest
from mosaic_gateway_installer.program_copy.home_programs import programs_of
from mosaic_gateway_installer.step import Step, StepId, Target
from mosaic_gateway_installer.upgrade.major_version import decision_for, programs_major, undo_major

__all__ = ["ClusterStep", "MajorUpgradeStep", "RuntimeStep"]


@dataclass(slots=True)
class RuntimeStep(Step):
    """Copies PostgreSQL's programs, so that an upgrade of the package does not affect a running server."""

    target: Target
    id: ClassVar[StepId] = StepId.RUNTIME
    _started: bool = False

    @property
    def description(self) -> str:
        """What the step does."""
        return f"Copy PostgreSQL into {self.target.home.runtime}"

    def done(self) -> bool:
        """Return whether an unmodified copy of the package's programs, or the system's programs, exist."""
        if self.target.config.postgres_bin is not None:
            return _has_runtime(self.target)
        return postgres.is_whole(postgres.copy_of(self.target.home, postgres.wheel_version()))

    def apply(self) -> None:
        """Copy the programs, or examine those of the system."""
        self._started = True
        if self.target.config.postgres_bin is not None:
            postgres.examine_programs(self.target.config.postgres_bin)
        else:
            programs_of(self.target.home).place_postgres()

    def undo(self) -> None:
        """Remove the copy that this run created; copies of other versions stay."""
        home = self.target.home
        if self._started and self.target.config.postgres_bin is None:
            programs_of(home).remove([postgres.copy_of(home, postgres.wheel_version()).name])
        if home.programs is None:
            _remove_if_empty(home.runtime)


@dataclass(slots=True)
class ClusterStep(Step):
    """Creates the database cluster."""

    target: Target
    id: ClassVar[StepId] = StepId.CLUSTER
    _started: bool = False

    @property
    def description(self) -> str:
        """What the step does."""
        return f"Create the database cluster in {self.target.home.data}"

    def done(self) -> bool:
        """Return whether a cluster exists."""
        return postgres.cluster_of(self.target.home) is not None

    def apply(self) -> None:
        """Run initdb in a temporary sibling directory and rename it."""
        self._started = True
        runtime = postgres.find_runtime(self.target.home, self.target.config.postgres_bin)
        postgres.create_cluster(self.target.home, runtime)

    def undo(self) -> None:
        """Remove the cluster that this run created; it was never used."""
        if not self._started:
            return
        for sockets in postgres.outside_directories(self.target.home, runtime_directory(process_environment())):
            shutil.rmtree(sockets, ignore_errors=True)
        cluster = postgres.cluster_of(self.target.home)
        if cluster is not None:
            shutil.rmtree(cluster)
        postgres.disk_reserve_file(self.target.home).unlink(missing_ok=True)
        _remove_if_empty(self.target.home.data)


def _has_runtime(target: Target) -> bool:
    try:
        postgres.find_runtime(target.home, target.config.postgres_bin)
    except RuntimeMissingError:
        return False
    return True


def _remove_if_empty(directory: Path) -> None:
    with suppress(OSError):
        directory.rmdir()


@dataclass(slots=True)
class MajorUpgradeStep(Step):
    """Upgrades the cluster to the major version of the programs that will run it."""

    target: Target
    id: ClassVar[StepId] = StepId.MAJOR_UPGRADE
    _started: bool = False

    @property
    def description(self) -> str:
        """What the step does."""
        cluster = postgres.cluster_of(self.target.home)
        versions = (
            f" {postgres.major_of(cluster)} to {programs_major(self.target.config)}" if cluster is not None else ""
        )
        return f"Upgrade the database from PostgreSQL{versions}, beside the old one"

    def done(self) -> bool:
        """Return whether there is nothing to upgrade, or the upgrade is not possible."""
        return decision_for(self.target.config) is not postgres.MajorDecision.UPGRADE

    def apply(self) -> None:
        """Create the new cluster, compare it with the old one, and make it the current one.

        Raises `MajorUpgradeError`, `DiskFullError`, BusyError, EngineError, OSError.
        """
        from mosaic_gateway_installer.upgrade.new_cluster import upgrade_to_new_major

        self._started = True
        with disk_full_as("the new cluster", self.target.home.path):
            upgrade_to_new_major(self.target)

    def undo(self) -> None:
        """Remove the new cluster; the old one is the current one again."""
        if self._started:
            with database_at_rest(self.target.home):
                undo_major(self.target.home)
