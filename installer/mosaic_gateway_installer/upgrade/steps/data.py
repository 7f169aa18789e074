"""The steps of an upgrade that copy and change the data."""

from __future__ import annotations

import shutil
from contextlib import closing, suppress
from dataclasses import dataclass
from typing import ClassVar

import psycopg

from mosaic_gateway.auth import accounts
from mosaic_gateway.engines import connect, postgres
from mosaic_gateway.gateway import load_bundles, open_database, prepare_schema
from mosaic_gateway.installation import EngineName, Phase, read_mark
from mosaic_gateway.process import disk_full_as
from mosaic_gateway_installer.backup.creation import cold_backup, create_backup
from mosaic_gateway_installer.backup.stored_backups import backups_of
from mosaic_gateway_installer.install.steps.engine import MajorUpgradeStep
from mosaic_gateway_installer.program_copy.home_programs import programs_of
from mosaic_gateway_installer.step import Step, StepId
from mosaic_gateway_installer.upgrade.later_writes import DetectionMethod, read_baseline
from mosaic_gateway_installer.upgrade.rollback import restore_data
from mosaic_gateway_installer.upgrade.running_upgrade import Upgrade

__all__ = ["BackupStep", "MigrateStep", "NewMajorStep", "ProgramsStep"]


@dataclass(slots=True)
class BackupStep(Step):
    """Creates the backup of data, secrets and settings, and compares it with its source."""

    upgrade: Upgrade
    id: ClassVar[StepId] = StepId.BACKUP

    @property
    def description(self) -> str:
        """What the step does."""
        return f"Back up data, secrets and settings into {backups_of(self.upgrade.target.home)}"

    def done(self) -> bool:
        """Return whether there is a backup from before the data was first changed."""
        mark = read_mark(self.upgrade.target.home)
        return mark is not None and mark.phase is Phase.CHANGING and mark.backup is not None

    def apply(self) -> None:
        """Create the backup. Raises `DiskFullError`, `BackupFailedError`."""
        upgrade, target = self.upgrade, self.upgrade.target
        self._remove()  # that of an earlier run, after which the old gateway may have served again
        home, directory = target.home, backups_of(target.home)
        if target.config.engine is EngineName.SERVER:
            created = create_backup(target.config, upgrade.receipt, directory, upgrade.report)
        else:
            # The copy is compared now; `SealStep` adds the hashes when the gateway serves again.
            created = cold_backup(
                home, upgrade.receipt, target.config.engine, directory, upgrade.report, hashes=False,
                ahead=upgrade.ahead,
            )  # fmt: skip
        upgrade.backup = created.name
        upgrade.update_mark(backup=created.name)

    def undo(self) -> None:
        """Remove the backup, which is no longer needed; that of a server stays if its database may have changed."""
        if not (self.upgrade.target.config.engine is EngineName.SERVER and self.upgrade.changed_data):
            self._remove()

    def _remove(self) -> None:
        mark = read_mark(self.upgrade.target.home)
        if mark is None or mark.backup is None:
            return
        self.upgrade.update_mark(backup=None)
        shutil.rmtree(backups_of(self.upgrade.target.home) / mark.backup, ignore_errors=True)


@dataclass(slots=True)
class ProgramsStep(Step):
    """Copies the newer minor version of PostgreSQL, which the next start uses."""

    upgrade: Upgrade
    id: ClassVar[StepId] = StepId.RUNTIME
    _created: bool = False

    @property
    def description(self) -> str:
        """What the step does."""
        return f"Copy PostgreSQL {postgres.wheel_version()} into {self.upgrade.target.home.runtime}"

    def done(self) -> bool:
        """Return whether this version is in the home."""
        target = self.upgrade.target
        return postgres.find_runtime(target.home, target.config.postgres_bin).version == postgres.wheel_version()

    def apply(self) -> None:
        """Copy the programs."""
        self._created = True
        target = self.upgrade.target
        programs_of(target.home).place_postgres()

    def undo(self) -> None:
        """Remove the copy: the next start uses the newest version in the home."""
        if self._created:
            home = self.upgrade.target.home
            programs_of(home).remove([postgres.copy_of(home, postgres.wheel_version()).name])


@dataclass(slots=True)
class NewMajorStep(Step):
    """Upgrades the database to the new major version of PostgreSQL; the old cluster remains beside the new one."""

    upgrade: Upgrade
    inner: MajorUpgradeStep
    id: ClassVar[StepId] = StepId.MAJOR_UPGRADE

    @property
    def description(self) -> str:
        """What the step does."""
        return self.inner.description

    def done(self) -> bool:
        """Return whether the newest cluster has this package's major version."""
        cluster = postgres.cluster_of(self.upgrade.target.home)
        return cluster is not None and postgres.major_of(cluster) == int(postgres.wheel_version().partition(".")[0])

    def apply(self) -> None:
        """Create the new cluster."""
        self.upgrade.update_mark(phase=Phase.CHANGING)
        self.inner.apply()

    def undo(self) -> None:
        """Remove the new cluster."""
        mark = read_mark(self.upgrade.target.home)
        self.inner.undo()
        if mark is not None and mark.phase is Phase.CHANGING:
            self.upgrade.update_mark(phase=Phase.PREPARED)


@dataclass(slots=True)
class MigrateStep(Step):
    """Applies the schema migrations; undone by restoring the backup's data."""

    upgrade: Upgrade
    id: ClassVar[StepId] = StepId.MIGRATE
    description = "Apply the new schema migrations"

    def apply(self) -> None:
        """Update the vector extension, and apply the migrations. Raises `DiskFullError`."""
        upgrade, config = self.upgrade, self.upgrade.target.config
        upgrade.update_mark(phase=Phase.CHANGING)
        upgrade.changed_data = True
        with disk_full_as("the migrations", config.home.path), open_database(config) as conninfo:
            if upgrade.mark.needs_setup is None:
                upgrade.update_mark(needs_setup=_needs_setup(conninfo))
            if config.engine is not EngineName.SERVER:  # there the server's administrator decides
                _update_vector(conninfo)
            prepare_schema(load_bundles(), conninfo, config.engine)
            if config.engine is not EngineName.SERVER:
                with suppress(psycopg.Error):  # then a revert reports the later writes as unknown
                    upgrade.written = read_baseline(conninfo, DetectionMethod.of(config.engine))

    def undo(self) -> None:
        """Restore data, secrets and settings from the backup."""
        upgrade, target = self.upgrade, self.upgrade.target
        mark = read_mark(target.home)
        if mark is None or mark.phase not in {Phase.CHANGING, Phase.RESTORING}:
            return
        if target.config.engine is not EngineName.SERVER:
            restore_data(target.home, mark)
        upgrade.update_mark(
            phase=Phase.PREPARED, backup=None if target.config.engine is not EngineName.SERVER else mark.backup
        )


def _needs_setup(conninfo: str) -> bool | None:
    with suppress(psycopg.Error):  # an old schema without a table of admins
        return accounts.needs_setup(conninfo)
    return None


def _update_vector(conninfo: str) -> None:
    with closing(connect(conninfo, application_name="mosaic-gateway upgrade")) as connection:
        row = connection.execute(
            "SELECT installed_version <> default_version FROM pg_available_extensions"
            " WHERE name = 'vector' AND installed_version IS NOT NULL"
        ).fetchone()
        if row is not None and row[0]:
            connection.execute("ALTER EXTENSION vector UPDATE")
