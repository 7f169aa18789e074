"""The step of a restore that backs up the present data before it is replaced."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import ClassVar

from mosaic_gateway import fs
from mosaic_gateway.config import load_config
from mosaic_gateway.errors import MosaicError
from mosaic_gateway.hint import Text, command
from mosaic_gateway.installation import EngineName, Receipt
from mosaic_gateway.process import process_environment
from mosaic_gateway_installer.backup.contents import data_of
from mosaic_gateway_installer.backup.creation import create_backup
from mosaic_gateway_installer.backup.manifest import BEFORE_RESTORE, write_manifest
from mosaic_gateway_installer.backup.stored_backups import Backup, backups_of
from mosaic_gateway_installer.step import Step, StepId, Target
from mosaic_gateway_installer.step_runner import QuietReporter

__all__ = ["BackUpPresentStep"]


@dataclass(slots=True)
class BackUpPresentStep(Step):
    """Backs up the present data, which the restore replaces; the backup has the tag `BEFORE_RESTORE`."""

    target: Target
    present: Receipt
    id: ClassVar[StepId] = StepId.BACKUP
    notes: Sequence[Text] = ()
    _created: Backup | None = None
    description = f"Back up the present data (tag {BEFORE_RESTORE})"

    def done(self) -> bool:
        """Return whether the restore replaces no data; a server's database is never replaced."""
        engine = EngineName(self.present.engine)
        return engine is EngineName.SERVER or data_of(self.target.home, engine) is None

    def apply(self) -> None:
        """Create the backup. Raises the errors of `create_backup`, with a hint how to do without it."""
        home = self.target.home
        config = load_config(home, flags={}, environ=process_environment())
        try:
            created = create_backup(config, self.present, backups_of(home), QuietReporter())
        except MosaicError as error:
            error.hint += " To restore without a backup of the present data, add --no-backup."
            raise
        self._created = created
        write_manifest(created.path, replace(created.manifest, tag=BEFORE_RESTORE))
        self.notes = ("The replaced data is in the backup: " + command("backup restore", created.name),)

    def undo(self) -> None:
        """Remove the backup: the present data stays."""
        if self._created is not None:
            fs.erase([self._created.path])
