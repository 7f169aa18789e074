"""What follows a failed upgrade: the rest of the rollback, and the resulting state in the error."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager

from mosaic_gateway.errors import MosaicError
from mosaic_gateway.gateway.control import gateway_process
from mosaic_gateway.hint import command
from mosaic_gateway.installation import CONTINUE, EngineName, Home, read_mark
from mosaic_gateway_installer.backup.stored_backups import backups_of
from mosaic_gateway_installer.install.report import advise_retry
from mosaic_gateway_installer.step_runner import uninterruptible
from mosaic_gateway_installer.upgrade.rollback import roll_back
from mosaic_gateway_installer.upgrade.running_upgrade import Upgrade

__all__ = ["rolled_back"]

LOG = logging.getLogger(__name__)


@contextmanager
def rolled_back(run: Upgrade) -> Iterator[None]:
    """After a failure of the block, restore the old version, and add the resulting state to the error message."""
    try:
        yield
    except BaseException as error:
        with uninterruptible():
            _roll_back_remains(run.target.home)
        if isinstance(error, MosaicError):
            state, restored = _state_after_failure(run)
            error.add_note(state)
            if restored:
                advise_retry(error, command("upgrade"))
            elif read_mark(run.target.home) is not None:
                error.hint = CONTINUE
        raise


def _roll_back_remains(home: Home) -> None:
    """Roll back what an earlier, killed run had done, which undoing the steps of this run does not cover."""
    try:
        mark = read_mark(home)
        if mark is not None:
            roll_back(home, mark)
    except (OSError, MosaicError) as error:
        LOG.warning("the upgrade could not be rolled back: %s", error)  # the mark stays: the next run continues


def _state_after_failure(run: Upgrade) -> tuple[str, bool]:
    """Return a description of the present state, and whether everything is as before the upgrade."""
    home, receipt = run.target.home, run.receipt
    state = gateway_process.state_of(home, ask=False)
    unfinished = read_mark(home) is not None
    on_server = run.target.config.engine is EngineName.SERVER and run.changed_data
    if unfinished:
        summary = "The upgrade is not rolled back yet"
    elif on_server:
        summary = f"Version {receipt.version} {'serves again' if state.running else 'is installed, not running'}"
        summary += "; the database on the server is not rolled back"
        if run.backup is not None:
            summary += f". The dump from before the upgrade is {backups_of(home) / run.backup}"
    elif state.running:
        summary = f"The upgrade was rolled back: version {receipt.version} serves again, with the previous data"
    else:
        summary = f"The upgrade was rolled back: version {receipt.version} is installed, not running, with the previous"
        summary += " data"
    return f"{summary}. The log is {home.gateway_log}", not (unfinished or on_server)
