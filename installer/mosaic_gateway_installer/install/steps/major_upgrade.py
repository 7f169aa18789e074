"""The step that upgrades the cluster to a new major version of PostgreSQL, using `upgrade.new_cluster`."""

from __future__ import annotations

from dataclasses import dataclass

from mosaic_gateway.engines.postgres.cluster import cluster_of, major_of
from mosaic_gateway.engines.postgres.major_upgrade import MajorDecision
from mosaic_gateway.process.disk_full import disk_full_as
from mosaic_gateway_installer.backup.database_at_rest import database_at_rest
from mosaic_gateway_installer.step import Context
from mosaic_gateway_installer.upgrade.major_version import decision_for, programs_major, undo_major

__all__ = ["MajorUpgradeStep"]


@dataclass(slots=True)
class MajorUpgradeStep:
    """Upgrades the cluster to the major version of the programs that will run it."""

    context: Context
    id: str = "major-upgrade"
    _started: bool = False

    @property
    def description(self) -> str:
        """What the step does."""
        cluster = cluster_of(self.context.home)
        versions = f" {major_of(cluster)} to {programs_major(self.context.config)}" if cluster is not None else ""
        return f"Upgrade the database from PostgreSQL{versions}, beside the old one"

    def done(self) -> bool:
        """Return whether there is nothing to upgrade, or the upgrade is not possible."""
        return decision_for(self.context.config) is not MajorDecision.UPGRADE

    def apply(self) -> None:
        """Create the new cluster, compare it with the old one, and make it the current one.

        Raises `MajorUpgradeError`, `DiskFullError`, BusyError, EngineError, OSError.
        """
        from mosaic_gateway_installer.upgrade.new_cluster import upgrade_to_new_major

        self._started = True
        with disk_full_as("the new cluster", self.context.home.path):
            upgrade_to_new_major(self.context)

    def undo(self) -> None:
        """Remove the new cluster; the old one is the current one again."""
        if self._started:
            with database_at_rest(self.context.home):
                undo_major(self.context.home)
