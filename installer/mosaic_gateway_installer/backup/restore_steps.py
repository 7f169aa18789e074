"""The steps of a restore: stage the backup in the home, and exchange it for the present data."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from typing import ClassVar

from mosaic_gateway import fs
from mosaic_gateway.gateway import load_bundles, schema_digest
from mosaic_gateway.installation import Home, Receipt, ReceiptState, write_receipt
from mosaic_gateway.process import disk_full_as
from mosaic_gateway_installer.backup import data_swap
from mosaic_gateway_installer.backup.database_at_rest import database_at_rest
from mosaic_gateway_installer.backup.disk_space import check_free_space
from mosaic_gateway_installer.backup.manifest import DUMP, BackupKind
from mosaic_gateway_installer.backup.stored_backups import Backup
from mosaic_gateway_installer.backup.tree_copy import can_share, copy_tree
from mosaic_gateway_installer.install.adoption import data_identity_of
from mosaic_gateway_installer.step import Step, StepId, Target

__all__ = ["EmptyHomeStep", "StageBackupStep", "SwapStep"]


@dataclass(slots=True)
class EmptyHomeStep(Step):
    """Creates a new home with the instance id of the backup."""

    target: Target
    backup: Backup
    id: ClassVar[StepId] = StepId.EMPTY_HOME

    @property
    def description(self) -> str:
        """What the step does."""
        return f"Create {self.target.home.path} for instance {self.backup.manifest.instance_id}"

    def done(self) -> bool:
        """Return whether the home has a receipt."""
        return self.target.home.receipt.exists()

    def apply(self) -> None:
        """Write the receipt of a home with retained data, which an install then adopts."""
        write_receipt(self.target.home, receipt_of(self.backup, self.target))

    def undo(self) -> None:
        """Remove the receipt."""
        fs.remove_file(self.target.home.receipt)


@dataclass(slots=True)
class StageBackupStep(Step):
    """Copies the backup into the home, beside the present data."""

    target: Target
    backup: Backup
    present: Receipt | None
    id: ClassVar[StepId] = StepId.STAGE

    @property
    def description(self) -> str:
        """What the step does."""
        return f"Copy {self.backup.path} into {self.target.home.path}"

    def apply(self) -> None:
        """Copy data, secrets and settings, and write an updated copy of the present receipt."""
        home, stage = self.target.home, data_swap.staging(self.target.home)
        data_swap.clean_up(home)
        if not can_share(self.backup.path, home.path):
            check_free_space(home.path, self.backup.manifest.size, "The restore")
        fs.make_directory(stage)
        with disk_full_as("the restore", home.path):
            copies = {name: stage / name for name in ("data", "secrets", "config.toml")}
            if self.backup.manifest.kind is BackupKind.DUMP:
                del copies["data"]
                copies[f"data/{DUMP}"] = stage.parent / DUMP  # for `RestoreDumpStep`
            for name, copy in copies.items():
                if (self.backup.path / name).exists():
                    copy_tree(self.backup.path / name, copy)
        receipt = self.present or receipt_of(self.backup, self.target)
        manifest = self.backup.manifest
        if manifest.schema != schema_digest(load_bundles()):  # an install migrates retained data, or refuses it
            receipt = replace(receipt, state=ReceiptState.RETAINED, version=manifest.version)
        identity = asdict(data_identity_of(Home(stage)))
        write_receipt(Home(stage), replace(receipt, engine=manifest.engine, schema=manifest.schema, **identity))

    def undo(self) -> None:
        """Remove the copy."""
        data_swap.clean_up(self.target.home)


@dataclass(slots=True)
class SwapStep(Step):
    """Exchanges the present data for the staged copy; undo, or recovery after a kill, puts the present data back."""

    target: Target
    id: ClassVar[StepId] = StepId.SWAP
    description = "Set the present data, secrets and settings aside, and put the copy in their place"
    _started: bool = False

    def apply(self) -> None:
        """Exchange them while the database is stopped."""
        self._started = True
        self._at_rest(lambda: data_swap.exchange(self.target.home, data_swap.PARTS))

    def undo(self) -> None:
        """Put the previous ones back."""
        if self._started:
            self._at_rest(lambda: data_swap.put_back(self.target.home))

    def _at_rest(self, act: Callable[[], None]) -> None:
        with database_at_rest(self.target.home):
            act()


def receipt_of(backup: Backup, target: Target) -> Receipt:
    """Return the receipt of a new home for *backup*: retained data of that instance."""
    manifest = backup.manifest
    return Receipt(
        instance_id=manifest.instance_id,
        state=ReceiptState.RETAINED,
        version=manifest.version,
        engine=manifest.engine,
        created_at=manifest.created_at,
        home_created=bool(target.new_directories),
        parents_created=tuple(map(str, target.new_directories[:-1])),
        schema=manifest.schema,
    )
