"""The step that upgrades the cluster to a new major version of PostgreSQL, using `upgrade.new_cluster`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from mosaic_gateway.engines import postgres
from mosaic_gateway.process import disk_full_as
from mosaic_gateway_installer.backup.database_at_rest import database_at_rest
from mosaic_gateway_installer.step import Step, StepId, Target
from mosaic_gateway_installer.upgrade.major_version import decision_for, programs_major, undo_major

__all__ = ["MajorUpgradeStep"]


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
