"""The steps of reverting the last upgrade: previous data, programs and receipt are restored, each by a rename.

The new cluster is set aside. It is put back when the step is undone, or, after SIGKILL, by the next command
(`major_version.put_back_reverted`, `data_swap.put_back`).
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, ClassVar

from mosaic_gateway import fs
from mosaic_gateway.engines import postgres
from mosaic_gateway.errors import InternalError, RefusedError
from mosaic_gateway.fs.record_fields import RecordError, read_content
from mosaic_gateway.gateway import open_database
from mosaic_gateway.gateway.control import gateway_process
from mosaic_gateway.hint import command
from mosaic_gateway.installation import Home, Receipt, read_receipt, write_receipt
from mosaic_gateway.process import disk_full_as
from mosaic_gateway_installer.backup.database_at_rest import database_at_rest
from mosaic_gateway_installer.backup.stored_backups import backups_of
from mosaic_gateway_installer.install.adoption import data_identity_of
from mosaic_gateway_installer.install.smoke_test import smoke_test
from mosaic_gateway_installer.program_copy.home_programs import programs_of
from mosaic_gateway_installer.step import Step, StepId, Target
from mosaic_gateway_installer.upgrade.last_upgrade import LastUpgrade
from mosaic_gateway_installer.upgrade.later_writes import writes_since
from mosaic_gateway_installer.upgrade.major_version import put_back_reverted

__all__ = ["CheckLossStep", "LossError", "RevertClusterStep", "RevertProgramStep", "RevertReceiptStep", "ServeStep"]

MAX_NAMED = 8  # tables that an error message names


class LossError(RefusedError):
    """A revert would lose what has been written since the upgrade; ``details`` lists it."""

    code = "REVERT_WOULD_LOSE"


@dataclass(slots=True)
class CheckLossStep(Step):
    """Compares the database with its state at the end of the upgrade."""

    target: Target
    last: LastUpgrade
    accepted: bool
    lost: tuple[str, ...] | None = ()
    id: ClassVar[StepId] = StepId.CHECK_LOSS
    description = "Check what has been written since the upgrade"

    def apply(self) -> None:
        """Compare, while the gateway is stopped. Raises `LossError`."""
        config = self.target.config
        with (
            disk_full_as("reading the database", config.home.path),
            open_database(config, verify=False) as conninfo,
        ):
            self.lost = writes_since(self.last.written, conninfo)
        if not self.accepted:
            check(self.lost)


def check(lost: tuple[str, ...] | None) -> None:
    """Raise `LossError` if *lost* has entries, or is None (unknown)."""
    hint = "Nothing was changed. Create a backup (" + command("backup create") + "), then use --accept-loss."
    if lost is None:
        raise LossError(
            "the writes since the upgrade are unknown, because the database's statistics were reset", hint=hint
        )
    if lost:
        more = f", and {len(lost) - MAX_NAMED} more" if len(lost) > MAX_NAMED else ""
        raise LossError(
            f"reverting would lose what has been written since the upgrade: {'; '.join(lost[:MAX_NAMED])}{more}",
            hint=hint,
            details={"losses": list(lost)},
        )


@dataclass(slots=True)
class RevertClusterStep(Step):
    """Sets the new cluster aside with the programs of its version, so that the old one is the newest again."""

    target: Target
    id: ClassVar[StepId] = StepId.CLUSTER_BACK
    description = "Set the upgraded database cluster aside, so that the old one is used again"

    def apply(self) -> None:
        """Set the new cluster aside. Raises BusyError, OSError."""
        home = self.target.home
        new = postgres.cluster_of(home)
        if new is None:
            raise InternalError(f"{home.data} has no cluster")
        with database_at_rest(home):
            fs.set_aside([new], fs.Reason.REVERTED)
            old = postgres.cluster_of(home)
            newer = [
                runtime
                for runtime in postgres.runtimes_of(home)
                if old is not None and runtime.major > postgres.major_of(old)
            ]
            programs_of(home).set_aside([postgres.copy_of(home, runtime.version).name for runtime in newer])

    def undo(self) -> None:
        """Put the new cluster back."""
        with database_at_rest(self.target.home):
            put_back_reverted(self.target.home)


@dataclass(slots=True)
class RevertProgramStep(Step):
    """Switches the home to the previous program copy."""

    target: Target
    previous: str
    current: str | None
    id: ClassVar[StepId] = StepId.PROGRAM_BACK

    @property
    def description(self) -> str:
        """What the step does."""
        return f"Switch back to {self.previous}"

    def done(self) -> bool:
        """Return whether the previous program copy is already in use."""
        return self.previous == self.current

    def apply(self) -> None:
        """Switch to the previous program copy."""
        programs_of(self.target.home).switch(self.previous)

    def undo(self) -> None:
        """Switch to the current program copy again."""
        programs_of(self.target.home).switch(self.current)


@dataclass(slots=True)
class RevertReceiptStep(Step):
    """Restores the previous receipt: a byte-for-byte copy of the backup's, which the old version can read."""

    target: Target
    receipt: Receipt
    last: LastUpgrade
    id: ClassVar[StepId] = StepId.RECEIPT_BACK

    @property
    def description(self) -> str:
        """What the step does."""
        return f"Record version {self.last.source_version} in the receipt"

    def apply(self) -> None:
        """Write the previous receipt."""
        home = self.target.home
        content = _receipt_in_backup(home, self.last, self.receipt)
        if content is not None:
            fs.write_file(home.receipt, content)
            return
        identity = data_identity_of(home, self.target.config.auth_secret)
        previous = replace(
            self.receipt,
            version=self.last.source_version,
            schema=self.last.source_schema,
            system_identifier=identity.system_identifier,
            secret_check=identity.secret_check,
        )
        write_receipt(home, previous)

    def undo(self) -> None:
        """Write the upgraded version's receipt again."""
        write_receipt(self.target.home, self.receipt)


@dataclass(slots=True)
class ServeStep(Step):
    """Starts the previous version of the gateway, and tests it; ``smoke`` is the result of the smoke test."""

    target: Target
    id: ClassVar[StepId] = StepId.START
    description = "Start the previous version of the gateway, and test it"
    smoke: dict[str, Any] | None = None

    def apply(self) -> None:
        """Start and test the gateway. Raises `DiskFullError`, what a start raises, `SmokeTestError`."""
        with disk_full_as("starting the previous version of the gateway", self.target.home.path):
            gateway_process.start(self.target.home)
        self.smoke = smoke_test(self.target.config.local_url, needs_setup=None)

    def undo(self) -> None:
        """Stop the gateway."""
        gateway_process.stop(self.target.home)


def _receipt_in_backup(home: Home, last: LastUpgrade, present: Receipt) -> bytes | None:
    """Return the bytes of the receipt in the backup of *last*, None if there is none. Raises RecordError."""
    if last.backup is None:
        return None
    backup = Home(backups_of(home) / last.backup)
    receipt = read_receipt(backup)
    if receipt is None:
        return None
    if receipt.instance_id != present.instance_id:
        raise RecordError(backup.receipt, "instance_id", "it belongs to another installation")
    return read_content(backup.receipt)
