"""The entry of every verb that modifies an installation: signals, progress, lock, and recovery from a killed verb."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from enum import Enum, auto
from pathlib import Path

from mosaic_gateway import fs
from mosaic_gateway.cli import Reporter, reporter
from mosaic_gateway.gateway.control import gateway_process
from mosaic_gateway.installation import Home, ReceiptState, forget_lock, home_locked, mark_file, read_receipt
from mosaic_gateway_installer.backup.data_swap import clean_up, interrupted, put_back
from mosaic_gateway_installer.backup.database_at_rest import database_at_rest
from mosaic_gateway_installer.step import Journal
from mosaic_gateway_installer.step_runner import interruptible
from mosaic_gateway_installer.uninstall.inventory import erase_leftovers, leftovers, lying_in, put_back_removed
from mosaic_gateway_installer.upgrade.major_version import put_back_reverted

__all__ = ["Recovery", "needs_recovery", "new_home", "session"]


class Recovery(Enum):
    """What a verb recovers of a verb that was killed, before it does its own work."""

    ALL = auto()
    #: The verb itself completes or rolls back an unfinished upgrade, or the data goes anyway.
    ALL_BUT_UPGRADE = auto()
    NOTHING = auto()


@contextmanager
def session(home: Home, verb: str, *, recovery: Recovery = Recovery.ALL, removing: bool = False) -> Iterator[Reporter]:
    """Hold the lock of the existing *home* for *verb* inside the block; yield the reporter of its progress.

    *removing*: the verb goes on past directories of other users.

    SIGTERM and SIGHUP raise KeyboardInterrupt, as SIGINT does. What a killed verb left is recovered first. In a home
    without a receipt, journal and lock file are removed after the block. Raises
    `HomeOwnerError`, `HomeLayoutError`, `HomeBusyError`, OSError, and what recovery raises.
    """
    with interruptible(), reporter() as report, home_locked(home, verb, removing=removing):
        try:
            if recovery is not Recovery.NOTHING:
                _recover(home, report, upgrade_too=recovery is Recovery.ALL)
            yield report
        finally:
            if not os.path.lexists(home.receipt):  # a first installation that was rolled back, or a purge
                Journal(home.journal).close()
                forget_lock(home)


@contextmanager
def new_home(directories: Sequence[Path]) -> Iterator[None]:
    """Create *directories*, the home and its missing parents, outermost first.

    Those that are empty after the block are removed again.
    """
    with interruptible():
        for directory in directories:
            fs.make_directory(directory)
        try:
            yield
        finally:
            for directory in reversed(directories):
                with suppress(OSError):  # not empty: the installation succeeded, or it contains foreign files
                    directory.rmdir()


def needs_recovery(home: Home) -> bool:
    """Return whether `session` has something to do in *home*."""
    return interrupted(home) or mark_file(home).exists() or bool(lying_in(home) or leftovers(home))


def _recover(home: Home, report: Reporter, *, upgrade_too: bool) -> None:
    """Roll back an interrupted restore, upgrade or uninstall: rename what it had set aside to its original names.

    With *upgrade_too* False an interrupted upgrade is left as it is. Files that were only to be deleted
    are deleted. What a purge set aside stays: a purge can only be completed. A gateway that uses the data to be
    replaced is stopped. The caller holds the home's lock. Raises BusyError, OSError.
    """
    if interrupted(home):
        report.begin("Rolling back an interrupted restore")
        gateway_process.stop(home)
        with database_at_rest(home):
            put_back(home)
    clean_up(home)
    if lying_in(home, fs.Reason.REVERTED):
        report.begin("Rolling back an interrupted upgrade --revert")
        gateway_process.stop(home)
        with database_at_rest(home):
            put_back_reverted(home)
    if upgrade_too:
        from mosaic_gateway_installer.upgrade.unfinished import roll_back_unfinished  # imports many modules

        roll_back_unfinished(home, report)
    receipt = read_receipt(home)
    if receipt is not None and receipt.state is not ReceiptState.PURGING:
        put_back_removed(home)
    erase_leftovers(home)
