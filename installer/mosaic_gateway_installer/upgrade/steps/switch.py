"""The last steps of an upgrade that can be undone: start and test the new version, and switch to it."""

from __future__ import annotations

import time
from dataclasses import dataclass, replace
from http import HTTPStatus
from typing import ClassVar

from mosaic_gateway import __version__, installation
from mosaic_gateway.errors import InternalError, SmokeTestError
from mosaic_gateway.gateway import load_bundles, schema_digest
from mosaic_gateway.gateway.control import gateway_process
from mosaic_gateway.hint import command
from mosaic_gateway.process import disk_full_as
from mosaic_gateway_installer.install.adoption import data_identity_of
from mosaic_gateway_installer.install.smoke_test import log_in_error, smoke_test
from mosaic_gateway_installer.program_copy.home_programs import programs_of
from mosaic_gateway_installer.step import Step, StepId
from mosaic_gateway_installer.upgrade.last_upgrade import LastUpgrade, remove_last, write_last
from mosaic_gateway_installer.upgrade.major_version import remove_record
from mosaic_gateway_installer.upgrade.running_upgrade import Upgrade

__all__ = ["SmokeStep", "StartNewStep", "SwitchStep"]


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
        upgrade.update_mark(phase=installation.Phase.CHANGING)
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
    description = "Test the new gateway over HTTP"

    def apply(self) -> None:
        """Run the smoke test. Raises `SmokeTestError` with the end of the gateway's log."""
        target, mark = self.upgrade.target, self.upgrade.mark
        url = target.config.local_url
        with log_in_error(target.home):
            _check_version(url)
            # If there was no admin before, one may have been created meanwhile; if there was one, it must still exist.
            self.upgrade.smoke = smoke_test(url, needs_setup=False if mark.needs_setup is False else None)


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
        mark = installation.read_mark(self.upgrade.target.home)
        return mark is not None and mark.phase is installation.Phase.DONE

    def apply(self) -> None:
        """Switch program and receipt; from then on the gateway no longer depends on the installer's process."""
        upgrade, target = self.upgrade, self.upgrade.target
        self._started = True
        programs_of(target.home).switch(upgrade.new_program)
        write_last(target.home, _last_upgrade(upgrade))
        installation.write_receipt(target.home, _new_receipt(upgrade))
        remove_record(target.home)
        upgrade.update_mark(phase=installation.Phase.DONE)
        upgrade.backup = upgrade.mark.backup
        if upgrade.launched is not None:
            upgrade.launched.detach()

    def undo(self) -> None:
        """Switch back to the old version."""
        if not self._started:
            return
        upgrade, target = self.upgrade, self.upgrade.target
        upgrade.update_mark(phase=installation.Phase.CHANGING)
        remove_last(target.home)
        installation.write_receipt(target.home, upgrade.receipt)
        programs_of(target.home).switch(upgrade.source_program)


def _last_upgrade(upgrade: Upgrade) -> LastUpgrade:
    return LastUpgrade(
        source_version=upgrade.receipt.version,
        source_program=upgrade.source_program,
        source_schema=upgrade.receipt.schema,
        target_version=__version__,
        backup=upgrade.mark.backup,
        written=upgrade.written,
    )


def _new_receipt(upgrade: Upgrade) -> installation.Receipt:
    home = upgrade.target.home
    identity = data_identity_of(home, upgrade.target.config.auth_secret)
    return replace(
        upgrade.receipt,
        state=installation.ReceiptState.INSTALLED,
        version=__version__,
        schema=schema_digest(load_bundles()),
        system_identifier=identity.system_identifier,
        secret_check=identity.secret_check,
    )


def _check_version(url: str) -> None:
    """Check that the process that answers at *url* is this version. Raises `SmokeTestError`."""
    from mosaic_gateway.gateway import NoAnswerError, ask

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
