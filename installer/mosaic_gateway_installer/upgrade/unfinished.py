"""An upgrade that was killed: it is completed, continued or rolled back, by its mark in the home."""

from __future__ import annotations

from contextlib import suppress

from mosaic_gateway.cli import Reporter
from mosaic_gateway.errors import MosaicError
from mosaic_gateway.gateway.control import gateway_process
from mosaic_gateway.installation import Home, Phase, UpgradeMark, read_mark, remove_mark
from mosaic_gateway_installer.backup.hashes import add_missing_hashes
from mosaic_gateway_installer.backup.stored_backups import backups_of
from mosaic_gateway_installer.program_copy.home_programs import programs_of
from mosaic_gateway_installer.step import Journal
from mosaic_gateway_installer.upgrade.rollback import roll_back

__all__ = ["finish", "resolve", "roll_back_unfinished"]


def resolve(home: Home, report: Reporter) -> str | None:
    """Complete, retain or roll back an upgrade that was killed; return the target version if it was rolled back.

    An upgrade to this very program that has changed data is retained: the steps continue it.
    """
    mark = read_mark(home)
    if mark is None:
        return None
    if mark.phase is Phase.DONE:
        finish(home, mark)
        return None
    if mark.phase is Phase.CHANGING and programs_of(home).find_gateway() == mark.target_program:
        return None
    _roll_back(home, mark, report)
    return mark.target_version


def roll_back_unfinished(home: Home, report: Reporter) -> None:
    """Roll back an upgrade that was killed, unless it had completed; its mark is removed then."""
    mark = read_mark(home)
    if mark is not None and mark.phase is Phase.DONE:
        remove_mark(home)
    elif mark is not None:
        _roll_back(home, mark, report)


def _roll_back(home: Home, mark: UpgradeMark, report: Reporter) -> None:
    report.begin(f"Rolling back the unfinished upgrade to {mark.target_version}")
    roll_back(home, mark)


def finish(home: Home, mark: UpgradeMark) -> None:
    """Complete an upgrade that was killed after the switch: add the backup's hashes, remove mark and journal."""
    if mark.backup is not None:
        with suppress(OSError, MosaicError):  # the backup was compared; it can be restored without hashes too
            add_missing_hashes(backups_of(home) / mark.backup)
    remove_mark(home)
    Journal(home.journal).close()
    if mark.ran:
        gateway_process.start(home)
    else:
        gateway_process.stop(home)
