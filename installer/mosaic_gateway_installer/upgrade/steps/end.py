"""The last steps of an upgrade: start and test the new version, switch to it, and clean up."""

from __future__ import annotations

import time
from collections.abc import Collection
from contextlib import suppress
from dataclasses import dataclass, field, replace
from http import HTTPStatus

from packaging.version import InvalidVersion, Version

from mosaic_gateway import __version__
from mosaic_gateway.errors import InternalError, SmokeTestError
from mosaic_gateway.gateway.control import gateway_process
from mosaic_gateway.gateway.control.service import registered_service
from mosaic_gateway.gateway.schema import load_bundles, schema_digest
from mosaic_gateway.installation.engine_name import EngineName
from mosaic_gateway.installation.receipt import Receipt, ReceiptState, write_receipt
from mosaic_gateway.installation.upgrade_state import Phase, read_mark, remove_mark
from mosaic_gateway.process.disk_full import disk_full_as
from mosaic_gateway.process.logfile import tail_of
from mosaic_gateway_installer.backup.creation import add_missing_hashes
from mosaic_gateway_installer.backup.stored_backups import backups_of
from mosaic_gateway_installer.install.adoption import data_identity_of
from mosaic_gateway_installer.install.smoke_test import smoke_test
from mosaic_gateway_installer.program_copy.programs import programs_of
from mosaic_gateway_installer.program_copy.store import snapshots
from mosaic_gateway_installer.root.program_directory import program_names
from mosaic_gateway_installer.service.steps import service_step
from mosaic_gateway_installer.upgrade.context import Upgrade
from mosaic_gateway_installer.upgrade.last_upgrade import LastUpgrade, remove_last, write_last
from mosaic_gateway_installer.upgrade.major_version import remove_old_clusters, remove_record
from mosaic_gateway_installer.upgrade.unused_pglite import unused_pglite

__all__ = ["PruneStep", "ResumeServiceStep", "SealStep", "SmokeStep", "StartNewStep", "StopAgainStep", "SwitchStep"]

LOG_LINES = 20


@dataclass(slots=True)
class StartNewStep:
    """Starts the new gateway. Until the switch it exits if the installer does."""

    upgrade: Upgrade
    id: str = "start"

    @property
    def description(self) -> str:
        """What the step does."""
        return f"Start version {__version__} at {self.upgrade.context.config.local_url}"

    def done(self) -> bool:
        """Return False: the gateway of an earlier run has exited with that run."""
        return False

    def apply(self) -> None:
        """Start the gateway, and wait until it accepts requests. Raises `DiskFullError`."""
        upgrade = self.upgrade
        if upgrade.launched is None:
            raise InternalError("the step 'start' ran before the step 'launch'")
        upgrade.update_mark(phase=Phase.CHANGING)
        with disk_full_as(f"starting version {__version__}", upgrade.context.home.path):
            upgrade.launched.go()
        if upgrade.stopped_at is not None:
            upgrade.downtime = time.monotonic() - upgrade.stopped_at

    def undo(self) -> None:
        """Stop the gateway."""
        gateway_process.stop(self.upgrade.context.home)


@dataclass(slots=True)
class SmokeStep:
    """Tests the new gateway over HTTP, as an external client."""

    upgrade: Upgrade
    id: str = "smoke-test"

    @property
    def description(self) -> str:
        """What the step does."""
        return "Test the new gateway over HTTP"

    def done(self) -> bool:
        """Return False: the test is repeated in each run."""
        return False

    def apply(self) -> None:
        """Run the smoke test. Raises `SmokeTestError` with the end of the gateway's log."""
        context, mark = self.upgrade.context, self.upgrade.mark
        url = context.config.local_url
        try:
            _check_version(url)
            # If there was no admin before, one may have been created meanwhile; if there was one, it must still exist.
            self.upgrade.smoke = smoke_test(url, needs_setup=False if mark.needs_setup is False else None)
        except SmokeTestError as error:
            tail = "\n".join(tail_of(context.home.gateway_log, LOG_LINES))
            raise SmokeTestError(
                f"{error.message}\nThe end of the log:\n{tail}", hint=error.hint, details=error.details
            ) from error

    def undo(self) -> None:
        """Do nothing: the smoke test changes nothing."""


@dataclass(slots=True)
class SwitchStep:
    """Switches the installation to the new version."""

    upgrade: Upgrade
    id: str = "switch"
    _started: bool = False

    @property
    def description(self) -> str:
        """What the step does."""
        return f"Switch to version {__version__}"

    def done(self) -> bool:
        """Return whether the switch is complete."""
        mark = read_mark(self.upgrade.context.home)
        return mark is not None and mark.phase is Phase.DONE

    def apply(self) -> None:
        """Switch program and receipt; from then on the gateway no longer depends on the installer's process."""
        upgrade, context = self.upgrade, self.upgrade.context
        self._started = True
        programs_of(context.home).switch(upgrade.target)
        write_last(context.home, _last_upgrade(upgrade))
        write_receipt(context.home, _new_receipt(upgrade))
        remove_record(context.home)
        upgrade.update_mark(phase=Phase.DONE)
        upgrade.backup = upgrade.mark.backup
        if upgrade.launched is not None:
            upgrade.launched.detach()

    def undo(self) -> None:
        """Switch back to the old version."""
        if not self._started:
            return
        upgrade, context = self.upgrade, self.upgrade.context
        upgrade.update_mark(phase=Phase.CHANGING)
        remove_last(context.home)
        write_receipt(context.home, upgrade.receipt)
        programs_of(context.home).switch(upgrade.source_program)


@dataclass(slots=True)
class ResumeServiceStep:
    """Updates the service unit, and lets the service manager run the new gateway."""

    upgrade: Upgrade
    id: str = "service"

    @property
    def description(self) -> str:
        """What the step does."""
        return "Hand the new gateway over to the service manager"

    def done(self) -> bool:
        """Return False: the tested gateway is not run by the service manager."""
        return False

    def apply(self) -> None:
        """Stop the tested gateway, update the unit, and start it if the gateway was running before."""
        context = self.upgrade.context
        service = registered_service(context.home)
        if service is None:
            return
        gateway_process.stop(context.home)
        unit = service_step(context, service.manager)
        if not unit.done():
            unit.apply()
        if self.upgrade.mark.ran:
            gateway_process.start(context.home)

    def undo(self) -> None:
        """Do nothing: the upgrade is complete."""


@dataclass(slots=True)
class SealStep:
    """Adds the hash of every file to the backup's manifest; doing so earlier would lengthen the downtime."""

    upgrade: Upgrade
    id: str = "seal"

    @property
    def description(self) -> str:
        """What the step does."""
        return "Add the hash of every file to the backup's manifest"

    def done(self) -> bool:
        """Return False: the backup of this upgrade has no hashes yet."""
        return False

    def apply(self) -> None:
        """Hash all files, and rewrite the manifest."""
        context, name = self.upgrade.context, self.upgrade.mark.backup
        if name is not None and context.config.engine is not EngineName.SERVER:
            add_missing_hashes(backups_of(context.home) / name)

    def undo(self) -> None:
        """Do nothing: the upgrade is complete."""


@dataclass(slots=True)
class StopAgainStep:
    """Stops the new gateway, if none was running before."""

    upgrade: Upgrade
    id: str = "stop-again"

    @property
    def description(self) -> str:
        """What the step does."""
        return "Stop the gateway, which was not running before"

    def done(self) -> bool:
        """Return False: the smoke test has left the gateway running."""
        return False

    def apply(self) -> None:
        """Stop the gateway."""
        gateway_process.stop(self.upgrade.context.home)

    def undo(self) -> None:
        """Do nothing: the upgrade is complete."""


@dataclass(slots=True)
class PruneStep:
    """Removes the upgrade mark, and the programs that neither this version nor a revert needs."""

    upgrade: Upgrade
    id: str = "prune"
    removed: list[str] = field(default_factory=list)

    @property
    def description(self) -> str:
        """What the step does."""
        return "Remove programs that are older than the previous version"

    def done(self) -> bool:
        """Return False: there is always a mark to remove."""
        return False

    def apply(self) -> None:
        """Remove the mark and unneeded programs and clusters."""
        upgrade, context = self.upgrade, self.upgrade.context
        remove_mark(context.home)
        if upgrade.receipt.system_identifier == upgrade.system_identifier:  # only one upgrade can be reverted
            self.removed += remove_old_clusters(context.home)
        keep = {name for name in (upgrade.target, upgrade.source_program) if name}
        unused = [path.name for path in snapshots(context.home) if path.name not in keep]
        self.removed += programs_of(context.home).remove(
            [*unused, *_old_postgres_programs(program_names(context.home))]
        )
        if context.config.engine is EngineName.PGLITE:  # after the removal: it reads the remaining program copies
            self.removed += programs_of(context.home).remove(unused_pglite(context.home))

    def undo(self) -> None:
        """Do nothing: what was removed is not needed any more."""


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
    home = upgrade.context.home
    identity = data_identity_of(home, upgrade.context.config.auth_secret)
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
            hint="Check the log: mosaic-gateway logs",
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
