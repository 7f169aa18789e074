"""The steps of an uninstall and of a purge.

What `NoteStep` and `SetAsideStep` do can be taken back; from `EraseStep` on there is no way back, only on.
"""

from __future__ import annotations

import os
import shutil
import sys
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path

from mosaic_gateway.config import process_environment, runtime_directory
from mosaic_gateway.engines.pglite.template import remove_made
from mosaic_gateway.engines.postgres.sockets import outside_directories
from mosaic_gateway.files import remove_file
from mosaic_gateway.process.account import account_named, assume
from mosaic_gateway_installer.at_rest import database_at_rest
from mosaic_gateway_installer.belongings import (
    belongings,
    bring_back,
    erase,
    has_empty_directories,
    is_erased,
    set_aside,
)
from mosaic_gateway_installer.holding import forget_lock
from mosaic_gateway_installer.receipt import Receipt, ReceiptState, write_receipt
from mosaic_gateway_installer.steps.base import Context
from mosaic_gateway_installer.steps.home import remove_account

__all__ = ["EraseStep", "LeaveStep", "NoteStep", "RemoveAccountStep", "RemoveCachesStep", "SetAsideStep"]


@dataclass(slots=True)
class NoteStep:
    """Says in the receipt what is kept, or that everything goes: an install then knows what it finds."""

    context: Context
    receipt: Receipt
    state: ReceiptState
    kept: tuple[str, ...]
    id: str = "note"

    @property
    def description(self) -> str:
        """What the step does."""
        if self.state is ReceiptState.KEPT:
            return f"Note in the receipt what is kept: {', '.join(self.kept) or 'nothing'}"
        return "Note in the receipt that everything is given up"

    def done(self) -> bool:
        """Return whether the receipt says so."""
        return (self.receipt.state, self.receipt.kept) == (self.state, self.kept)

    def apply(self) -> None:
        """Write it."""
        noted = replace(self.receipt, state=self.state, kept=self.kept)
        write_receipt(self.context.home, noted, self.context.home_owner)

    def undo(self) -> None:
        """Write what it said before."""
        write_receipt(self.context.home, self.receipt, self.context.home_owner)


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
        return not belongings(self.context.home, everything=self.everything)

    def apply(self) -> None:
        """Rename it. Raises `EngineBusyError` where another process works with the database."""
        home = self.context.home
        with database_at_rest(home), assume(self.context.home_owner):
            set_aside(belongings(home, everything=self.everything))

    def undo(self) -> None:
        """Rename it back."""
        with assume(self.context.home_owner):
            bring_back(self.context.home)


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
        left = belongings(home, everything=self.everything) or self._sockets()
        return is_erased(home) and not left and not has_empty_directories(home, everything=self.everything)

    def apply(self) -> None:
        """Delete it, and directories of ours that are empty then."""
        with assume(self.context.home_owner):
            for directory in self._sockets():
                shutil.rmtree(directory, ignore_errors=True)
        erase(self.context.home, self.context.home_owner, everything=self.everything)

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
        remove_made([Path(name) for name in self.receipt.caches], self.context.home_owner)

    def undo(self) -> None:
        """Do nothing: it cannot be taken back."""


@dataclass(slots=True)
class RemoveAccountStep:
    """Removes the service account that an install made, unless somebody else uses it; ``told`` says so then."""

    context: Context
    receipt: Receipt
    id: str = "remove-account"
    told: tuple[str, ...] = ()

    @property
    def description(self) -> str:
        """What the step does."""
        return f"Remove the service account {self.receipt.account}"

    def done(self) -> bool:
        """Return whether there is no account of ours."""
        name = self.receipt.account
        return not self.receipt.account_created or name is None or account_named(name) is None

    def apply(self) -> None:
        """Take the home back, and remove the account, unless something else still runs as it."""
        name = self.receipt.account
        if name is None:
            return
        user = _process_of(name)
        if user is not None:
            self.told = (f"The account {name} stays: process {user} runs as it. When that has ended: userdel {name}",)
            return
        for path in (self.context.home.path, *self.context.home.path.iterdir()):
            os.chown(path, 0, 0, follow_symlinks=False)
        remove_account(name)

    def undo(self) -> None:
        """Do nothing: it cannot be taken back."""


@dataclass(slots=True)
class LeaveStep:
    """Removes receipt, lock and home; what is not ours keeps the home in place."""

    context: Context
    receipt: Receipt
    id: str = "leave"

    @property
    def description(self) -> str:
        """What the step does."""
        return f"Remove the receipt{f' and {self.context.home.path}' if self.receipt.home_created else ''}"

    def done(self) -> bool:
        """Return whether there is no receipt."""
        return not self.context.home.receipt.exists()

    def apply(self) -> None:
        """Remove them: the receipt first of these, because with it a killed purge could be told from none."""
        home = self.context.home
        self.context.journal.close()
        remove_file(home.receipt)
        forget_lock(home)
        if self.receipt.home_created:
            for directory in (home.path, *map(Path, reversed(self.receipt.parents_created))):
                with suppress(OSError):  # something that is not ours lies in it
                    directory.rmdir()

    def undo(self) -> None:
        """Do nothing: it cannot be taken back."""


def _process_of(name: str) -> int | None:
    """Return the pid of a process that runs as the account: another home may belong to it.

    Those of containers do not count, which have user ids of their own: their root is another (as userdel has it).
    """
    import psutil

    account = account_named(name)
    if account is None:
        return None
    for process in psutil.process_iter():
        with suppress(psutil.Error, OSError):
            if process.uids().real == account.uid and _has_our_root(process.pid):
                return process.pid
    return None


def _has_our_root(pid: int) -> bool:
    """Return whether the process sees the file system that we see. Raises OSError where it has ended."""
    root = Path(f"/proc/{pid}/root")
    return not sys.platform.startswith("linux") or root.samefile("/")
