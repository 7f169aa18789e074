"""The steps after the switch to the new version; their failure does not roll the upgrade back."""

from __future__ import annotations

from collections.abc import Collection
from contextlib import suppress
from dataclasses import dataclass, field
from typing import ClassVar

from packaging.version import InvalidVersion, Version

from mosaic_gateway.gateway.control import gateway_process, registered_service
from mosaic_gateway.installation import EngineName, remove_mark
from mosaic_gateway_installer.backup.hashes import add_missing_hashes
from mosaic_gateway_installer.backup.stored_backups import backups_of
from mosaic_gateway_installer.program_copy.home_programs import programs_of
from mosaic_gateway_installer.program_copy.store import program_copies
from mosaic_gateway_installer.root.program_directory import program_names
from mosaic_gateway_installer.service.steps import service_step
from mosaic_gateway_installer.step import Step, StepId
from mosaic_gateway_installer.upgrade.major_version import remove_old_clusters
from mosaic_gateway_installer.upgrade.running_upgrade import Upgrade
from mosaic_gateway_installer.upgrade.unused_pglite import unused_pglite

__all__ = ["STEPS", "PruneStep", "ResumeServiceStep", "SealStep", "StopAgainStep"]

STEPS = frozenset({StepId.SERVICE, StepId.STOP_AGAIN, StepId.SEAL, StepId.PRUNE})


@dataclass(slots=True)
class ResumeServiceStep(Step):
    """Updates the service unit, and lets the service manager run the new gateway."""

    upgrade: Upgrade
    id: ClassVar[StepId] = StepId.SERVICE
    description = "Hand the new gateway over to the service manager"

    def apply(self) -> None:
        """Stop the tested gateway, update the unit, and start it if the gateway was running before."""
        target = self.upgrade.target
        service = registered_service(target.home)
        if service is None:
            return
        gateway_process.stop(target.home)
        unit = service_step(target, service.manager)
        if not unit.done():
            unit.apply()
        if self.upgrade.mark.ran:
            gateway_process.start(target.home)


@dataclass(slots=True)
class SealStep(Step):
    """Adds the hash of every file to the backup's manifest; doing so earlier would lengthen the downtime."""

    upgrade: Upgrade
    id: ClassVar[StepId] = StepId.SEAL
    description = "Add the hash of every file to the backup's manifest"

    def apply(self) -> None:
        """Hash all files, and rewrite the manifest."""
        target, name = self.upgrade.target, self.upgrade.mark.backup
        if name is not None and target.config.engine is not EngineName.SERVER:
            add_missing_hashes(backups_of(target.home) / name)


@dataclass(slots=True)
class StopAgainStep(Step):
    """Stops the new gateway, if none was running before."""

    upgrade: Upgrade
    id: ClassVar[StepId] = StepId.STOP_AGAIN
    description = "Stop the gateway, which was not running before"

    def apply(self) -> None:
        """Stop the gateway."""
        gateway_process.stop(self.upgrade.target.home)


@dataclass(slots=True)
class PruneStep(Step):
    """Removes the upgrade mark, and the programs that neither this version nor a revert needs."""

    upgrade: Upgrade
    id: ClassVar[StepId] = StepId.PRUNE
    description = "Remove programs that are older than the previous version"
    removed: list[str] = field(default_factory=list)

    def apply(self) -> None:
        """Remove the mark and unneeded programs and clusters."""
        upgrade, target = self.upgrade, self.upgrade.target
        remove_mark(target.home)
        if upgrade.receipt.system_identifier == upgrade.system_identifier:  # only one upgrade can be reverted
            self.removed += remove_old_clusters(target.home)
        keep = {name for name in (upgrade.new_program, upgrade.source_program) if name}
        unused = [path.name for path in program_copies(target.home) if path.name not in keep]
        self.removed += programs_of(target.home).remove([*unused, *_old_postgres_programs(program_names(target.home))])
        if target.config.engine is EngineName.PGLITE:  # after the removal: it reads the remaining program copies
            self.removed += programs_of(target.home).remove(unused_pglite(target.home))


def _old_postgres_programs(names: Collection[str]) -> list[str]:
    """Return PostgreSQL's programs among *names*, except for the newest two of each major version. Pure."""
    by_major: dict[int, list[tuple[Version, str]]] = {}
    for name in names:
        if name.startswith("postgresql-"):
            with suppress(InvalidVersion):
                version = Version(name.removeprefix("postgresql-"))
                by_major.setdefault(version.major, []).append((version, name))
    retained = 2
    return [name for versions in by_major.values() for _, name in sorted(versions)[:-retained]]
