"""The step that backs up the data retained by an uninstall before new migrations are applied to it."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from mosaic_gateway.gateway import load_bundles, schema_digest
from mosaic_gateway.installation import EngineName, Receipt, ReceiptState, installed, read_receipt
from mosaic_gateway_installer.step import Step, StepId, Target
from mosaic_gateway_installer.step_runner import QuietReporter

__all__ = ["RetainedDataBackupStep"]

#: The steps that migrate; once one of them was begun, the backup is the only copy of the previous state.
MIGRATING = (StepId.SCHEMA, StepId.START, StepId.MAJOR_UPGRADE)


@dataclass(slots=True)
class RetainedDataBackupStep(Step):
    """Backs up retained data if this version will migrate it; ``created`` is the path of the backup."""

    target: Target
    id: ClassVar[StepId] = StepId.BACKUP
    created: Path | None = None

    @property
    def description(self) -> str:
        """What the step does."""
        if self.target.config.engine is EngineName.SERVER:
            return "Dump the server's database, which has to be migrated"
        return "Back up the retained data, which has to be migrated"

    @property
    def notes(self) -> tuple[str, ...]:  # type: ignore[override]
        """Where the backup is."""
        return () if self.created is None else (f"The backup of the previous data: {self.created}",)

    @property
    def failure_notes(self) -> tuple[str, ...]:
        """Where the backup is, unless it was removed again."""
        exists = self.created is not None and self.created.exists()
        return (f"The backup of the data before the migration: {self.created}",) if exists else ()

    def done(self) -> bool:
        """Return whether there is no such data, or a killed run backed it up."""
        home = self.target.home
        receipt = read_receipt(home)
        if receipt is None or not _is_to_be_migrated(receipt):
            return True
        on_server = self.target.config.engine is EngineName.SERVER
        return not (on_server or any(home.data.glob("*"))) or self.target.journal.was_done(self.id)

    def apply(self) -> None:
        """Copy and compare, or dump. Raises BackupFailedError, BusyError, PreflightError, OSError."""
        from mosaic_gateway_installer.backup.creation import cold_backup, create_backup
        from mosaic_gateway_installer.backup.database_at_rest import database_at_rest
        from mosaic_gateway_installer.backup.dump import DumpClientTooOldError
        from mosaic_gateway_installer.backup.stored_backups import backups_of

        config, home = self.target.config, self.target.home
        receipt, place = installed(home), backups_of(home)
        if config.engine is EngineName.SERVER:
            try:
                self.created = create_backup(config, receipt, place, QuietReporter()).path
            except DumpClientTooOldError as error:
                error.hint += " Or create a backup with the server's tools, and install with --no-backup."
                raise
        else:
            with database_at_rest(home):
                self.created = cold_backup(home, receipt, config.engine, place, QuietReporter()).path

    def undo(self) -> None:
        """Remove the backup, unless the data may have been changed after it was created."""
        from mosaic_gateway_installer.backup.stored_backups import remove_unfinished_backups

        target = self.target
        if self.created is None or any(target.journal.was_ever_started(step) for step in MIGRATING):
            return
        shutil.rmtree(self.created, ignore_errors=True)
        remove_unfinished_backups(target.home)


def _is_to_be_migrated(receipt: Receipt) -> bool:
    return receipt.state is ReceiptState.RETAINED and receipt.schema not in {None, schema_digest(load_bundles())}
