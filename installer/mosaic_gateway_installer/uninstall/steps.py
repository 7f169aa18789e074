"""The steps of an uninstall and of a purge.

The steps up to `SetAsideStep` can be undone. From `EraseStep` on the removal can only be completed.
"""

from __future__ import annotations

import shutil
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import ClassVar

from mosaic_gateway import fs
from mosaic_gateway.engines import pglite, postgres
from mosaic_gateway.installation import Receipt, ReceiptState, forget_lock, write_receipt
from mosaic_gateway.process import Request, process_environment, runtime_directory
from mosaic_gateway_installer.backup.database_at_rest import database_at_rest
from mosaic_gateway_installer.program_copy.home_programs import programs_of
from mosaic_gateway_installer.root.program_directory import program_names
from mosaic_gateway_installer.step import Step, StepId, Target
from mosaic_gateway_installer.uninstall.inventory import (
    closed_directories,
    erase_inventory,
    has_empty_directories,
    inventory,
    leftovers,
    lying_in,
    put_back_removed,
    set_inventory_aside,
)

__all__ = ["EraseStep", "RecordStateStep", "RemoveCachesStep", "RemoveHomeStep", "RemoveProgramsStep", "SetAsideStep"]


@dataclass(slots=True)
class RecordStateStep(Step):
    """Records in the receipt what is retained, or that everything is removed, for a later install."""

    target: Target
    receipt: Receipt
    state: ReceiptState
    retained: tuple[str, ...]
    id: ClassVar[StepId] = StepId.NOTE

    @property
    def description(self) -> str:
        """What the step does."""
        if self.state is ReceiptState.RETAINED:
            return f"Record in the receipt what is retained: {', '.join(self.retained) or 'nothing'}"
        return "Record in the receipt that everything is removed"

    def done(self) -> bool:
        """Return whether the receipt already states it."""
        return (self.receipt.state, self.receipt.retained) == (self.state, self.retained)

    def apply(self) -> None:
        """Write the receipt."""
        receipt = replace(self.receipt, state=self.state, retained=self.retained)
        write_receipt(self.target.home, receipt)

    def undo(self) -> None:
        """Write the previous receipt."""
        write_receipt(self.target.home, self.receipt)


@dataclass(slots=True)
class SetAsideStep(Step):
    """Renames what will be removed, while no process uses the database; the renames can be undone."""

    target: Target
    everything: bool
    id: ClassVar[StepId] = StepId.SET_ASIDE

    @property
    def description(self) -> str:
        """What the step does."""
        what = "programs, logs, data, secrets, settings and backups" if self.everything else "programs and logs"
        return f"Set aside {what}"

    def done(self) -> bool:
        """Return whether there is nothing to rename."""
        return not inventory(self.target.home, everything=self.everything)

    def apply(self) -> None:
        """Rename it. Raises `EngineBusyError` if another process uses the database."""
        home = self.target.home
        with database_at_rest(home):
            set_inventory_aside(home, everything=self.everything)

    def undo(self) -> None:
        """Rename it back."""
        put_back_removed(self.target.home)


@dataclass(slots=True)
class EraseStep(Step):
    """Deletes what was set aside."""

    target: Target
    everything: bool
    id: ClassVar[StepId] = StepId.ERASE

    @property
    def description(self) -> str:
        """What the step does."""
        return f"Delete what was set aside{' permanently' if self.everything else ''}"

    def done(self) -> bool:
        """Return whether there is nothing to delete, now or after `SetAsideStep`."""
        home = self.target.home
        remaining = inventory(home, everything=self.everything) or self._sockets()
        aside = lying_in(home) or leftovers(home) or closed_directories(home, everything=self.everything)
        return not (aside or remaining) and not has_empty_directories(home, everything=self.everything)

    def apply(self) -> None:
        """Delete it, and then the installation's empty directories. Raises `RemovalIncompleteError` at the end."""
        for directory in self._sockets():
            shutil.rmtree(directory, ignore_errors=True)
        fs.require_erased(erase_inventory(self.target.home, everything=self.everything))

    def _sockets(self) -> list[Path]:
        return postgres.outside_directories(self.target.home, runtime_directory(process_environment()))


@dataclass(slots=True)
class RemoveCachesStep(Step):
    """Removes caches outside of the home; other homes that use them create them again."""

    target: Target
    receipt: Receipt
    id: ClassVar[StepId] = StepId.REMOVE_CACHES

    @property
    def description(self) -> str:
        """What the step does."""
        return f"Remove {', '.join(self.receipt.caches)}"

    def done(self) -> bool:
        """Return whether none of the caches exists."""
        return not any(Path(path).exists() for path in self.receipt.caches)

    def apply(self) -> None:
        """Remove the caches."""
        pglite.remove_template([Path(name) for name in self.receipt.caches])


@dataclass(slots=True)
class RemoveProgramsStep(Step):
    """Removes the programs that root installed outside of the home."""

    target: Target
    id: ClassVar[StepId] = StepId.REMOVE_PROGRAMS

    @property
    def description(self) -> str:
        """What the step does."""
        return f"Remove the programs in {self.target.home.runtime}"

    def done(self) -> bool:
        """Return whether there are none."""
        home = self.target.home
        return home.programs is None or not program_names(home)

    def apply(self) -> None:
        """Remove them."""
        home = self.target.home
        programs_of(home).remove(program_names(home))


@dataclass(slots=True)
class RemoveHomeStep(Step):
    """Removes receipt, lock file and home; a home that contains other files stays.

    ``notes`` are lines for the output.
    """

    target: Target
    receipt: Receipt
    id: ClassVar[StepId] = StepId.LEAVE
    notes: tuple[str, ...] = ()

    @property
    def description(self) -> str:
        """What the step does."""
        created = self.receipt.home_created or self.target.home.broker is not None
        return f"Remove the receipt{f' and {self.target.home.path}' if created else ''}"

    def done(self) -> bool:
        """Return whether there is no receipt."""
        return not self.target.home.receipt.exists()

    def apply(self) -> None:
        """Remove them, the receipt first: as long as it exists, an interrupted purge can be started again."""
        home = self.target.home
        self.target.journal.close()
        fs.remove_file(home.receipt)
        forget_lock(home)
        if home.broker is not None and home.programs is not None:
            self._leave_to_root()
        elif self.receipt.home_created:
            for directory in (home.path, *map(Path, reversed(self.receipt.parents_created))):
                with suppress(OSError):  # not empty: it contains other files
                    directory.rmdir()

    def _leave_to_root(self) -> None:
        """Request that root's process removes what root created for the home, after this process has exited."""
        if self.target.home.broker is None:
            return
        answer = self.target.home.broker.ask(Request.LEAVE)[0]
        if answer["used_by"] is not None:
            name, pid = answer["account"], answer["used_by"]
            self.notes = (f"The account {name} stays: process {pid} runs as it. After it has exited: userdel {name}",)
