"""What a killed restore left is put right before any other verb changes the home."""

from __future__ import annotations

from mosaic_gateway.cli.reporter import Reporter
from mosaic_gateway.config import Home
from mosaic_gateway.gateway import control
from mosaic_gateway.process.account import owner_of
from mosaic_gateway_installer.at_rest import database_at_rest
from mosaic_gateway_installer.backups.swap import clean_up, interrupted, put_back

__all__ = ["recover"]


def recover(home: Home, report: Reporter) -> None:
    """Bring back what a restore that did not come to its end had set aside; the caller holds the home's lock.

    A gateway that runs on the data that goes is stopped. Raises BusyError, OSError.
    """
    owner = owner_of(home.path)
    if interrupted(home):
        report.begin("Putting back what an interrupted restore had set aside")
        control.stop(home)
        with database_at_rest(home):
            put_back(home, owner)
    clean_up(home, owner)
