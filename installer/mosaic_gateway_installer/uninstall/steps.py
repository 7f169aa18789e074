"""The steps of an uninstall and of a purge.

What `RecordStateStep` and `SetAsideStep` do can be taken back; from `EraseStep` on there is no way back, only on.
"""

from __future__ import annotations

import shutil
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path

from mosaic_gateway.config import process_environment, runtime_directory
from mosaic_gateway.engines.pglite.template import remove_template
from mosaic_gateway.engines.postgres.sockets import outside_directories
from mosaic_gateway.fs.files import remove_file
from mosaic_gateway.process.root_requests import Request
from mosaic_gateway_installer.backup.database_at_rest import database_at_rest
from mosaic_gateway_installer.home_lock import forget_lock
from mosaic_gateway_installer.program_copy.programs import programs_of
from mosaic_gateway_installer.receipt import Receipt, ReceiptState, write_receipt
from mosaic_gateway_installer.root.program_directory import program_names
from mosaic_gateway_installer.step import Context
from mosaic_gateway_installer.uninstall.inventory import (
    erase,
    has_empty_directories,
    inventory,
    is_erased,
    put_back_removed,
    set_aside,
)

__all__ = ["EraseStep", "RecordStateStep", "RemoveCachesStep", "RemoveHomeStep", "RemoveProgramsStep", "SetAsideStep"]


@dataclass(slots=True)
class RecordStateStep:
    """Says in the receipt what is kept, or that everything goes: an install then knows what it finds."""

    context: Context
    receipt: Receipt
    state: ReceiptState
    retained: tuple[str, ...]
    id: str = "note"

    @property
    def description(self) -> str:
        """What the step does."""
        if self.state is ReceiptState.RETAINED:
            return f"Note in the receipt what is kept: {', '.join(self.retained) or 'nothing'}"
        return "Note in the receipt that everything is given up"

    def done(self) -> bool:
        """Return whether the receipt says so."""
        return (self.receipt.state, self.receipt.retained) == (self.state, self.retained)

    def apply(self) -> None:
        """Write it."""
        noted = replace(self.receipt, state=self.state, retained=self.retained)
        write_receipt(self.context.home, noted)

    def undo(self) -> None:
        """Write what it said before."""
        write_receipt(self.context.home, self.receipt)


@dataclass(slots=True)
class SetAsideStep:
    """Renames what goes, while nobody uses the database: all of it can still be brought back."""

    context: Context
    everything: bool
    id: str = "set-aside"

    @property
    def description(self) -> str:
        """What the step does."""
        what = "programs, logs, data, secrets, settings and backups" if self.everything else "programs and logs"
        return f"Set aside {what}"

    def done(self) -> bool:
        """Return whether nothing of it is left."""
        return not inventory(self.context.home, everything=self.everything)

    def apply(self) -> None:
        """Rename it. Raises `EngineBusyError` where another process works with the database."""
        home = self.context.home
        with database_at_rest(home):
            set_aside(inventory(home, everything=self.everything))

    def undo(self) -> None:
        """Rename it back."""
        put_back_removed(self.context.home)


@dataclass(slots=True)
class EraseStep:
    """Deletes what was set aside."""

    context: Context
    everything: bool
    id: str = "erase"

    @property
    def description(self) -> str:
        """What the step does."""
        return f"Delete what was set aside{', for good' if self.everything else ''}"

    def done(self) -> bool:
        """Return whether there is nothing to delete now, nor will be when what goes has been set aside."""
        home = self.context.home
        left = inventory(home, everything=self.everything) or self._sockets()
        return is_erased(home) and not left and not has_empty_directories(home, everything=self.everything)

    def apply(self) -> None:
        """Delete it, and directories of ours that are empty then."""
        for directory in self._sockets():
            shutil.rmtree(directory, ignore_errors=True)
        erase(self.context.home, everything=self.everything)

    def undo(self) -> None:
        """Do nothing: it cannot be taken back."""

    def _sockets(self) -> list[Path]:
        return outside_directories(self.context.home, runtime_directory(process_environment()))


@dataclass(slots=True)
class RemoveCachesStep:
    """Removes what was made outside of the home for other homes as well; they make it again."""

    context: Context
    receipt: Receipt
    id: str = "remove-caches"

    @property
    def description(self) -> str:
        """What the step does."""
        return f"Remove {', '.join(self.receipt.caches)}"

    def done(self) -> bool:
        """Return whether nothing of it is there."""
        return not any(Path(path).exists() for path in self.receipt.caches)

    def apply(self) -> None:
        """Remove it."""
        remove_template([Path(name) for name in self.receipt.caches])

    def undo(self) -> None:
        """Do nothing: it cannot be taken back."""


@dataclass(slots=True)
class RemoveProgramsStep:
    """Removes the programs that root has put in place outside of the home."""

    context: Context
    id: str = "remove-programs"

    @property
    def description(self) -> str:
        """What the step does."""
        return f"Remove the programs in {self.context.home.runtime}"

    def done(self) -> bool:
        """Return whether there are none."""
        home = self.context.home
        return home.programs is None or not program_names(home)

    def apply(self) -> None:
        """Have them removed."""
        home = self.context.home
        programs_of(home).remove(program_names(home))

    def undo(self) -> None:
        """Do nothing: it cannot be taken back."""


@dataclass(slots=True)
class RemoveHomeStep:
    """Removes receipt, lock and home; what is not ours keeps the home in place.

    ``notes`` is what a person should know afterwards.
    """

    context: Context
    receipt: Receipt
    id: str = "leave"
    notes: tuple[str, ...] = ()

    @property
    def description(self) -> str:
        """What the step does."""
        created = self.receipt.home_created or self.context.home.broker is not None
        return f"Remove the receipt{f' and {self.context.home.path}' if created else ''}"

    def done(self) -> bool:
        """Return whether there is no receipt."""
        return not self.context.home.receipt.exists()

    def apply(self) -> None:
        """Remove them, the receipt first: while it is there, a purge that was killed looks like one not begun."""
        home = self.context.home
        self.context.journal.close()
        remove_file(home.receipt)
        forget_lock(home)
        if home.broker is not None and home.programs is not None:
            self._leave_to_root()
        elif self.receipt.home_created:
            for directory in (home.path, *map(Path, reversed(self.receipt.parents_created))):
                with suppress(OSError):  # something that is not ours lies in it
                    directory.rmdir()

    def _leave_to_root(self) -> None:
        """Have root's process remove what root has made for the home: it goes with the end of this one."""
        if self.context.home.broker is None:
            return
        answer = self.context.home.broker.ask(Request.LEAVE)[0]
        if answer["used_by"] is not None:
            name = answer["account"]
            user = answer["used_by"]
            self.notes = (f"The account {name} stays: process {user} runs as it. When that has ended: userdel {name}",)

    def undo(self) -> None:
        """Do nothing: it cannot be taken back."""
