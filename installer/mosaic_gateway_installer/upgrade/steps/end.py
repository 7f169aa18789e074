"""The last steps of an upgrade: start and test the new version, switch to it, and clean up."""

from __future__ import annotations

import time
from collections.abc import Collection
from contextlib import suppress
from dataclasses import dataclass, field, replace
from http import HTTPStatus
from typing import ClassVar

from packaging.version import InvalidVersion, Version

from mosaic_gateway import __version__
from mosaic_gateway.errors import InternalError, SmokeTestError
from mosaic_gateway.gateway.control import gateway_process
from mosaic_gateway.gateway.control.service import registered_service
from mosaic_gateway.gateway.schema import load_bundles, schema_digest
from mosaic_gateway.hint import command
from mosaic_gateway.installation.engine_name import EngineName
from mosaic_gateway.installation.receipt import Receipt, ReceiptState, write_receipt
from mosaic_gateway.installation.upgrade_state import Phase, read_mark, remove_mark
from mosaic_gateway.process.disk_full import disk_full_as
from mosaic_gateway.process.logfile import tail_of
from mosaic_gateway_installer.backup.creation import add_missing_hashes
from mosaic_gateway_installer.backup.stored_backups import backups_of
from mosaic_gateway_installer.install.adoption import data_identity_of
from mosaic_gateway_installer.install.smoke_test import smoke_test
from mosaic_gateway_installer.program_copy.home_programs import programs_of
from mosaic_gateway_installer.program_copy.store import snapshots
from mosaic_gateway_installer.root.program_directory import program_names
from mosaic_gateway_installer.service.steps import service_step
from mosaic_gateway_installer.step import Step, StepId
from mosaic_gateway_installer.upgrade.last_upgrade import LastUpgrade, remove_last, write_last
from mosaic_gateway_installer.upgrade.major_version import remove_old_clusters, remove_record
from mosaic_gateway_installer.upgrade.running_upgrade import Upgrade
from mosaic_gateway_installer.upgrade.unused_pglite import unused_pglite

__all__ = ["PruneStep", "ResumeServiceStep", "SealStep", "SmokeStep", "StartNewStep", "StopAgainStep", "SwitchStep"]

LOG_LINES = 20


@dataclass(slots=True)
class StartNewStep(Step):
    """Starts the new gateway. Until the switch it exits if the installer does."""

    upgrade: Upgrade
    id: ClassVar[StepId] = StepId.START

    @property
    def description(self) -> str:
        """What the step does."""
        return f"Start version {__version__} at {self.upgrade.target.config.local_url}"

    def apply(self) -> None:
        """Start the gateway, and wait until it accepts requests. Raises `DiskFullError`."""
        upgrade = self.upgrade
        if upgrade.launched is None:
            raise InternalError("the step 'start' ran before the step 'launch'")
        upgrade.update_mark(phase=Phase.CHANGING)
        with disk_full_as(f"starting version {__version__}", upgrade.target.home.path):
            upgrade.launched.go()
        if upgrade.stopped_at is not None:
            upgrade.downtime = time.monotonic() - upgrade.stopped_at

    def undo(self) -> None:
        """Stop the gateway."""
        gateway_process.stop(self.upgrade.target.home)


@dataclass(slots=True)
class SmokeStep(Step):
    """Tests the new gateway over HTTP, as an external client."""

    upgrade: Upgrade
    id: ClassVar[StepId] = StepId.SMOKE_TEST

    @property
    def description(self) -> str:
        """What the step does."""
        return "Test the new gateway over HTTP"

    def apply(self) -> None:
        """Run the smoke test. Raises `SmokeTestError` with the end of the gateway's log."""
        target, mark = self.upgrade.target, self.upgrade.mark
        url = target.config.local_url
        try:
            _check_version(url)
            # If there was no admin before, one may have been created meanwhile; if there was one, it must still exist.
            self.upgrade.smoke = smoke_test(url, needs_setup=False if mark.needs_setup is False else None)
        except SmokeTestError as error:
            error.add_note("\n".join(["The end of the log:", *tail_of(target.home.gateway_log, LOG_LINES)]))
            raise


@dataclass(slots=True)
class SwitchStep(Step):
    """Switches the installation to the new version."""

    upgrade: Upgrade
    id: ClassVar[StepId] = StepId.SWITCH
    _started: bool = False

    @property
    def description(self) -> str:
        """What the step does."""
        return f"Switch to version {__version__}"

    def done(self) -> bool:
        """Return whether the switch is complete."""
        mark = read_mark(self.upgrade.target.home)
        return mark is not None and mark.phase is Phase.DONE

    def apply(self) -> None:
        """Switch program and receipt; from then on the gateway no longer depends on the installer's process."""
        upgrade, target = self.upgrade, self.upgrade.target
        self._started = True
        programs_of(target.home).switch(upgrade.new_program)
        write_last(target.home, _last_upgrade(upgrade))
        write_receipt(target.home, _new_receipt(upgrade))
        remove_record(target.home)
        upgrade.update_mark(phase=Phase.DONE)
        upgrade.backup = upgrade.mark.backup
        if upgrade.launched is not None:
            upgrade.launched.detach()

    def undo(self) -> None:
        """Switch back to the old version."""
        if not self._started:
            return
        upgrade, target = self.upgrade, self.upgrade.target
        upgrade.update_mark(phase=Phase.CHANGING)
        remove_last(target.home)
        write_receipt(target.home, upgrade.receipt)
        programs_of(target.home).switch(upgrade.source_program)


@dataclass(slots=True)
class ResumeServiceStep(Step):
    """Updates the service unit, and lets the service manager run the new gateway."""

    upgrade: Upgrade
    id: ClassVar[StepId] = StepId.SERVICE

    @property
    def description(self) -> str:
        """What the step does."""
        return "Hand the new gateway over to the service manager"

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

    @property
    def description(self) -> str:
        """What the step does."""
        return "Add the hash of every file to the backup's manifest"

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

    @property
    def description(self) -> str:
        """What the step does."""
        return "Stop the gateway, which was not running before"

    def apply(self) -> None:
        """Stop the gateway."""
        gateway_process.stop(self.upgrade.target.home)


@dataclass(slots=True)
class PruneStep(Step):
    """Removes the upgrade mark, and the programs that neither this version nor a revert needs."""

    upgrade: Upgrade
    id: ClassVar[StepId] = StepId.PRUNE
    removed: list[str] = field(default_factory=list)

    @property
    def description(self) -> str:
        """What the step does."""
        return "Remove programs that are older than the previous version"

    def apply(self) -> None:
        """Remove the mark and unneeded programs and clusters."""
        upgrade, target = self.upgrade, self.upgrade.target
        remove_mark(target.home)
        if upgrade.receipt.system_identifier == upgrade.system_identifier:  # only one upgrade can be reverted
            self.removed += remove_old_clusters(target.home)
        keep = {name for name in (upgrade.new_program, upgrade.source_program) if name}
        unused = [path.name for path in snapshots(target.home) if path.name not in keep]
        self.removed += programs_of(target.home).remove([*unused, *_old_postgres_programs(program_names(target.home))])
        if target.config.engine is EngineName.PGLITE:  # after the removal: it reads the remaining program copies
            self.removed += programs_of(target.home).remove(unused_pglite(target.home))


def _last_upgrade(upgrade: Upgrade) -> LastUpgrade:
    return LastUpgrade(
        source_version=upgrade.receipt.version,
        source_program=upgrade.source_program,
        source_schema=upgrade.receipt.schema,
        target_version=__version__,
        backup=upgrade.mark.backup,
        written=upgrade.written,
    )


def _new_receipt(upgrade: Upgrade) -> Receipt:
    home = upgrade.target.home
    identity = data_identity_of(home, upgrade.target.config.auth_secret)
    return replace(
        upgrade.receipt,
        state=ReceiptState.INSTALLED,
        version=__version__,
        schema=schema_digest(load_bundles()),
        system_identifier=identity.system_identifier,
        secret_check=identity.secret_check,
    )


def _check_version(url: str) -> None:
    """Check that the process that answers at *url* is this version. Raises `SmokeTestError`."""
    from mosaic_gateway.gateway.local_client import NoAnswerError, ask

    try:
        status, body = ask(url, "/readyz")
    except NoAnswerError as error:
        raise SmokeTestError(error.message, hint=error.hint) from error
    version = body.get("version") if isinstance(body, dict) else None
    if status != HTTPStatus.OK or version != __version__:
        raise SmokeTestError(
            f"GET {url}/readyz: expected 200 from version {__version__}, got {status} {body}",
            hint="Check the log: " + command("logs"),
        )


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
