"""A backup in the place of what a home holds, or into an empty one."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace

from mosaic_gateway.fs.files import make_directory, remove_file
from mosaic_gateway.gateway.schema import load_bundles, schema_digest
from mosaic_gateway.installation.layout import Home
from mosaic_gateway_installer.backup.data_swap import PARTS, SWAP, clean_up, exchange, put_back, staging
from mosaic_gateway_installer.backup.database_at_rest import database_at_rest
from mosaic_gateway_installer.backup.disk_space import check_room, full_disk_named
from mosaic_gateway_installer.backup.manifest import DUMP, BackupKind
from mosaic_gateway_installer.backup.stored_backups import Backup
from mosaic_gateway_installer.backup.tree_copy import can_share, copy_tree
from mosaic_gateway_installer.install.adoption import data_identity_of
from mosaic_gateway_installer.receipt import Receipt, ReceiptState, write_receipt
from mosaic_gateway_installer.step import Context

__all__ = ["EmptyHomeStep", "StageBackupStep", "SwapStep"]


@dataclass(slots=True)
class EmptyHomeStep:
    """Makes the home of a machine that has none, with the identity that the backup has."""

    context: Context
    backup: Backup
    id: str = "empty-home"

    @property
    def description(self) -> str:
        """What the step does."""
        return f"Create {self.context.home.path} for instance {self.backup.manifest.instance_id}"

    def done(self) -> bool:
        """Return whether there is a home."""
        return self.context.home.receipt.exists()

    def apply(self) -> None:
        """Write the receipt of a home whose data was kept, which an install then takes up."""
        write_receipt(self.context.home, receipt_of(self.backup, self.context))

    def undo(self) -> None:
        """Remove the receipt."""
        remove_file(self.context.home.receipt)


@dataclass(slots=True)
class StageBackupStep:
    """Copies the backup into the home, beside what is there."""

    context: Context
    backup: Backup
    present: Receipt | None
    id: str = "stage"

    @property
    def description(self) -> str:
        """What the step does."""
        return f"Copy {self.backup.path} into {self.context.home.path}"

    def done(self) -> bool:
        """Return False: a copy that an earlier run left is not trusted."""
        return False

    def apply(self) -> None:
        """Copy data, secrets and settings; the receipt is the present one, brought up to date."""
        home, place = self.context.home, staging(self.context.home)
        clean_up(home)
        if not can_share(self.backup.path, home.path):
            check_room(home.path, self.backup.manifest.size, "The restore")
        make_directory(place)
        with full_disk_named(home.path, "The restore"):
            copies = {name: place / name for name in ("data", "secrets", "config.toml")}
            if self.backup.manifest.kind is BackupKind.DUMP:
                del copies["data"]
                copies[f"data/{DUMP}"] = place.parent / DUMP  # for the step that fills the database
            for name, copy in copies.items():
                if (self.backup.path / name).exists():
                    copy_tree(self.backup.path / name, copy)
        receipt = self.present or receipt_of(self.backup, self.context)
        manifest = self.backup.manifest
        if manifest.schema != schema_digest(load_bundles()):  # an install migrates kept data, or refuses it
            receipt = replace(receipt, state=ReceiptState.RETAINED, version=manifest.version)
        marks = asdict(data_identity_of(Home(place)))
        write_receipt(Home(place), replace(receipt, engine=manifest.engine, schema=manifest.schema, **marks))

    def undo(self) -> None:
        """Remove the copy."""
        shutil.rmtree(self.context.home.path / SWAP, ignore_errors=True)


@dataclass(slots=True)
class SwapStep:
    """Sets what is there aside, and puts the copy in its place; undone, or after a kill, the old is back."""

    context: Context
    id: str = "swap"
    _begun: bool = False

    @property
    def description(self) -> str:
        """What the step does."""
        return "Put the copy in the place of the present data, secrets and settings, which are set aside"

    def done(self) -> bool:
        """Return False: see `StageBackupStep`."""
        return False

    def apply(self) -> None:
        """Exchange them while nobody uses the database."""
        self._begun = True
        self._at_rest(lambda: exchange(self.context.home, PARTS))

    def undo(self) -> None:
        """Bring the old ones back."""
        if self._begun:
            self._at_rest(lambda: put_back(self.context.home))

    def _at_rest(self, act: Callable[[], None]) -> None:
        with database_at_rest(self.context.home):
            act()


def receipt_of(backup: Backup, context: Context) -> Receipt:
    """Return the receipt of a home that is made of *backup*: data of that instance, kept by nobody yet."""
    manifest = backup.manifest
    return Receipt(
        instance_id=manifest.instance_id,
        state=ReceiptState.RETAINED,
        version=manifest.version,
        engine=manifest.engine,
        created_at=manifest.created_at,
        home_created=bool(context.new_directories),
        parents_created=tuple(map(str, context.new_directories[:-1])),
        schema=manifest.schema,
    )
