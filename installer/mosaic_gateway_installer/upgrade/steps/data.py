"""The steps of an upgrade that copy and change the data."""

from __future__ import annotations

import shutil
from contextlib import closing, suppress
from dataclasses import dataclass

import psycopg

from mosaic_gateway.auth import accounts
from mosaic_gateway.engines.postgres.cluster import cluster_of, major_of
from mosaic_gateway.engines.postgres.runtime import copy_of, find_runtime, wheel_version
from mosaic_gateway.engines.session import connect
from mosaic_gateway.gateway.database_access import open_database
from mosaic_gateway.gateway.schema import load_bundles, prepare_schema
from mosaic_gateway.installation.engine_name import EngineName
from mosaic_gateway.installation.upgrade_state import Phase, read_mark
from mosaic_gateway_installer.backup.creation import cold_backup, create_backup
from mosaic_gateway_installer.backup.disk_space import full_disk_named
from mosaic_gateway_installer.backup.stored_backups import backups_of
from mosaic_gateway_installer.install.steps.major_upgrade import MajorUpgradeStep
from mosaic_gateway_installer.program_copy.programs import programs_of
from mosaic_gateway_installer.upgrade.context import Upgrade
from mosaic_gateway_installer.upgrade.later_writes import DetectionMethod, read_written
from mosaic_gateway_installer.upgrade.rollback import restore_data

__all__ = ["BackupStep", "MigrateStep", "NewMajorStep", "ProgramsStep"]


@dataclass(slots=True)
class BackupStep:
    """Copies data, secrets and settings, and compares the copy with them."""

    upgrade: Upgrade
    id: str = "backup"

    @property
    def description(self) -> str:
        """What the step does."""
        return f"Back up data, secrets and settings into {backups_of(self.upgrade.context.home)}"

    def done(self) -> bool:
        """Return whether there is one of what was before the data was first changed."""
        mark = read_mark(self.upgrade.context.home)
        return mark is not None and mark.phase is Phase.CHANGING and mark.backup is not None

    def apply(self) -> None:
        """Copy and compare. Raises `DiskFullError`, `BackupFailedError`."""
        upgrade, context = self.upgrade, self.upgrade.context
        self._remove()  # of an earlier run, after which the old gateway may have served again
        home, place = context.home, backups_of(context.home)
        if context.config.engine is EngineName.SERVER:
            created = create_backup(context.config, upgrade.receipt, place, upgrade.report)
        else:
            # Compared it is; its hashes are noted when somebody serves again.
            created = cold_backup(
                home, upgrade.receipt, context.config.engine, place, upgrade.report, hashes=False,
                ahead=upgrade.ahead,
            )  # fmt: skip
        upgrade.backup = created.name
        upgrade.note(backup=created.name)

    def undo(self) -> None:
        """Remove it: what it was made for is in its place. A server's is kept if that may have been changed."""
        if not (self.upgrade.context.config.engine is EngineName.SERVER and self.upgrade.changed_data):
            self._remove()

    def _remove(self) -> None:
        mark = read_mark(self.upgrade.context.home)
        if mark is None or mark.backup is None:
            return
        self.upgrade.note(backup=None)
        shutil.rmtree(backups_of(self.upgrade.context.home) / mark.backup, ignore_errors=True)


@dataclass(slots=True)
class ProgramsStep:
    """Copies the newer minor version of PostgreSQL, which takes over with the next start."""

    upgrade: Upgrade
    id: str = "runtime"
    _created: bool = False

    @property
    def description(self) -> str:
        """What the step does."""
        return f"Copy PostgreSQL {wheel_version()} into {self.upgrade.context.home.runtime}"

    def done(self) -> bool:
        """Return whether it is there."""
        context = self.upgrade.context
        return find_runtime(context.home, context.config.postgres_bin).version == wheel_version()

    def apply(self) -> None:
        """Copy it."""
        self._created = True
        context = self.upgrade.context
        programs_of(context.home).place_postgres()

    def undo(self) -> None:
        """Remove it: the next start takes the newest that is there."""
        if self._created:
            home = self.upgrade.context.home
            programs_of(home).remove([copy_of(home, wheel_version()).name])


@dataclass(slots=True)
class NewMajorStep:
    """Takes the database to the new major version of PostgreSQL, beside the old one; undone, the old is in force."""

    upgrade: Upgrade
    inner: MajorUpgradeStep
    id: str = "major-upgrade"

    @property
    def description(self) -> str:
        """What the step does."""
        return self.inner.description

    def done(self) -> bool:
        """Return False: a run that was killed may have left the programs for it still to come."""
        cluster = cluster_of(self.upgrade.context.home)
        return cluster is not None and major_of(cluster) == int(wheel_version().partition(".")[0])

    def apply(self) -> None:
        """Make the new cluster."""
        self.upgrade.note(phase=Phase.CHANGING)
        self.inner.apply()

    def undo(self) -> None:
        """Remove it."""
        mark = read_mark(self.upgrade.context.home)
        self.inner.undo()
        if mark is not None and mark.phase is Phase.CHANGING:
            self.upgrade.note(phase=Phase.PREPARED)


@dataclass(slots=True)
class MigrateStep:
    """Brings the data to the new version; undone, the backup's data is in its place."""

    upgrade: Upgrade
    id: str = "migrate"

    @property
    def description(self) -> str:
        """What the step does."""
        return "Apply the new schema migrations"

    def done(self) -> bool:
        """Return whether there is nothing to apply."""
        return False

    def apply(self) -> None:
        """Apply them, and let pgvector's objects follow its program. Raises `DiskFullError`."""
        upgrade, config = self.upgrade, self.upgrade.context.config
        upgrade.note(phase=Phase.CHANGING)
        upgrade.changed_data = True
        with full_disk_named(config.home.path, "The migrations"), open_database(config) as conninfo:
            if upgrade.mark.needs_setup is None:
                upgrade.note(needs_setup=_needs_setup(conninfo))
            if config.engine is not EngineName.SERVER:  # there it is the owner's to decide
                _update_vector(conninfo)
            prepare_schema(load_bundles(), conninfo, config.engine)
            if config.engine is not EngineName.SERVER:
                with suppress(psycopg.Error):  # then nobody can say later what has been written since
                    upgrade.written = read_written(conninfo, DetectionMethod.of(config.engine))

    def undo(self) -> None:
        """Bring back data, secrets and settings."""
        upgrade, context = self.upgrade, self.upgrade.context
        mark = read_mark(context.home)
        if mark is None or mark.phase not in {Phase.CHANGING, Phase.RESTORING}:
            return
        if context.config.engine is not EngineName.SERVER:
            restore_data(context.home, mark)
        upgrade.note(
            phase=Phase.PREPARED, backup=None if context.config.engine is not EngineName.SERVER else mark.backup
        )


def _needs_setup(conninfo: str) -> bool | None:
    with suppress(psycopg.Error):  # a schema so old that it has no admins
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
