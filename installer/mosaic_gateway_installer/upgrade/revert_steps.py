"""The steps of going back from the last upgrade: data, programs and receipt of before, each by a rename.

What goes is set aside under a name that ends in ``.reverted``, and put back by an undo, or by the next verb after a
kill (`majors.put_back_reverted`, `backups.swap.put_back`).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

from mosaic_gateway.engines.postgres.cluster import cluster_of, major_of
from mosaic_gateway.engines.postgres.runtime import copy_of, runtimes_of
from mosaic_gateway.errors import InternalError, RefusedError
from mosaic_gateway.fs.files import write_file
from mosaic_gateway.fs.record_fields import RecordError, read_content
from mosaic_gateway.gateway.control import gateway_process
from mosaic_gateway.gateway.database_access import open_database
from mosaic_gateway.installation.layout import Home
from mosaic_gateway_installer.backup.database_at_rest import database_at_rest
from mosaic_gateway_installer.backup.disk_space import full_disk_named
from mosaic_gateway_installer.backup.stored_backups import backups_of
from mosaic_gateway_installer.backup.tree_copy import sync_directory
from mosaic_gateway_installer.install.adoption import data_identity_of
from mosaic_gateway_installer.program_copy.programs import programs_of
from mosaic_gateway_installer.receipt import Receipt, read_receipt, write_receipt
from mosaic_gateway_installer.step import Context
from mosaic_gateway_installer.upgrade.last_upgrade import LastUpgrade
from mosaic_gateway_installer.upgrade.later_writes import losses
from mosaic_gateway_installer.upgrade.major_version import put_back_reverted, reverted_name

__all__ = ["CheckLossStep", "LossError", "RevertClusterStep", "RevertProgramStep", "RevertReceiptStep", "ServeStep"]

NAMED = 8  # tables that an error names


class LossError(RefusedError):
    """Going back would lose what has been written since the upgrade; ``details`` lists it."""

    code = "REVERT_WOULD_LOSE"


@dataclass(slots=True)
class CheckLossStep:
    """Holds what is in the database against what was there when the upgrade ended."""

    context: Context
    last: LastUpgrade
    accepted: bool
    found: tuple[str, ...] | None = ()
    id: str = "check-loss"

    @property
    def description(self) -> str:
        """What the step does."""
        return "See what has been written since the upgrade"

    def done(self) -> bool:
        """Return False: it is looked at each time."""
        return False

    def apply(self) -> None:
        """Look, after everybody has stopped. Raises `LossError`."""
        config = self.context.config
        with (
            full_disk_named(config.home.path, "Reading the database"),
            open_database(config, verify=False) as conninfo,
        ):
            self.found = losses(self.last.written, conninfo)
        if not self.accepted:
            check(self.found)

    def undo(self) -> None:
        """Do nothing: looking changes nothing."""


def check(found: tuple[str, ...] | None) -> None:
    """Raise `LossError` unless *found* says that nothing would be lost."""
    hint = "Nothing was changed. Make a backup (mosaic-gateway backup create), then give it up: --accept-loss"
    if found is None:
        raise LossError("nobody can say what has been written since the upgrade: the counters were reset", hint=hint)
    if found:
        more = f", and {len(found) - NAMED} more" if len(found) > NAMED else ""
        raise LossError(
            f"going back would lose what has been written since the upgrade: {'; '.join(found[:NAMED])}{more}",
            hint=hint,
            details={"losses": list(found)},
        )


@dataclass(slots=True)
class RevertClusterStep:
    """Sets the new cluster aside with the programs of its version, so that the old one is the newest again."""

    context: Context
    id: str = "cluster-back"

    @property
    def description(self) -> str:
        """What the step does."""
        return "Set the upgraded database cluster aside, beside which the old one lies"

    def done(self) -> bool:
        """Return False: the caller knows whether there is an old one."""
        return False

    def apply(self) -> None:
        """Set it aside. Raises BusyError, OSError."""
        home = self.context.home
        new = cluster_of(home)
        if new is None:
            raise InternalError(f"{home.data} holds no cluster")
        with database_at_rest(home):
            new.rename(reverted_name(new))
            sync_directory(home.data)
            old = cluster_of(home)
            newer = [one for one in runtimes_of(home) if old is not None and one.major > major_of(old)]
            programs_of(home).set_aside([copy_of(home, one.version).name for one in newer])

    def undo(self) -> None:
        """Put it back."""
        with database_at_rest(self.context.home):
            put_back_reverted(self.context.home)


@dataclass(slots=True)
class RevertProgramStep:
    """Lets the home run the program of before."""

    context: Context
    before: str
    now: str | None
    id: str = "program-back"

    @property
    def description(self) -> str:
        """What the step does."""
        return f"Switch back to {self.before}"

    def done(self) -> bool:
        """Return whether it is in use."""
        return self.before == self.now

    def apply(self) -> None:
        """Switch."""
        programs_of(self.context.home).switch(self.before)

    def undo(self) -> None:
        """Switch again."""
        programs_of(self.context.home).switch(self.now)


@dataclass(slots=True)
class RevertReceiptStep:
    """Writes the receipt of before: word for word that of the backup, which the old version can read."""

    context: Context
    receipt: Receipt
    last: LastUpgrade
    id: str = "receipt-back"

    @property
    def description(self) -> str:
        """What the step does."""
        return f"Note version {self.last.source_version} in the receipt"

    def done(self) -> bool:
        """Return False: it was the upgrade's receipt a moment ago."""
        return False

    def apply(self) -> None:
        """Write it."""
        home = self.context.home
        text = _retained_receipt(home, self.last, self.receipt)
        if text is not None:
            write_file(home.receipt, text)
            return
        marks = data_identity_of(home, self.context.config.auth_secret)
        before = replace(
            self.receipt,
            version=self.last.source_version,
            schema=self.last.source_schema,
            system_identifier=marks.system_identifier,
            secret_check=marks.secret_check,
        )
        write_receipt(home, before)

    def undo(self) -> None:
        """Write the upgrade's again."""
        write_receipt(self.context.home, self.receipt)


@dataclass(slots=True)
class ServeStep:
    """Starts what is in force now, and asks it."""

    context: Context
    ask: Callable[[], object]
    id: str = "start"

    @property
    def description(self) -> str:
        """What the step does."""
        return "Start the gateway of before, and test it"

    def done(self) -> bool:
        """Return False: it has to show that it works."""
        return False

    def apply(self) -> None:
        """Start it. Raises `DiskFullError`, what a start raises, `SmokeTestError`."""
        with full_disk_named(self.context.home.path, "Starting the gateway of before"):
            gateway_process.start(self.context.home)
        self.ask()

    def undo(self) -> None:
        """Stop it."""
        gateway_process.stop(self.context.home)


def _retained_receipt(home: Home, last: LastUpgrade, present: Receipt) -> bytes | None:
    """Return the receipt in the backup of *last* as it is, None where there is none. Raises RecordError."""
    if last.backup is None:
        return None
    retained = Home(backups_of(home) / last.backup)
    found = read_receipt(retained)
    if found is None:
        return None
    if found.instance_id != present.instance_id:
        raise RecordError(retained.receipt, "instance_id", "it is another installation's")
    return read_content(retained.receipt)
