"""``upgrade --abort``: rolls an unfinished upgrade back on request."""

from __future__ import annotations

from mosaic_gateway.cli import Outcome
from mosaic_gateway.installation import Home, Phase, installed, read_mark
from mosaic_gateway_installer.backup.stored_backups import remove_unfinished_backups
from mosaic_gateway_installer.session import Recovery, session
from mosaic_gateway_installer.step import Journal
from mosaic_gateway_installer.upgrade.rollback import roll_back
from mosaic_gateway_installer.upgrade.unfinished import finish

__all__ = ["abort"]


def abort(home: Home) -> Outcome:
    """Roll back an unfinished upgrade of *home*; do nothing if there is none."""
    installed(home)
    with session(home, "upgrade", recovery=Recovery.NOTHING) as report:
        mark = read_mark(home)
        if mark is None:
            Journal(home.journal).close()
            remove_unfinished_backups(home)
            return Outcome(
                result={"home": str(home.path), "rolled_back": None}, lines=("There is no unfinished upgrade.",)
            )
        if mark.phase is Phase.DONE:
            finish(home, mark)
            line = f"The upgrade to {mark.target_version} was already complete."
            return Outcome(result={"home": str(home.path), "rolled_back": None}, lines=(line,))
        report.begin(f"Rolling back to version {mark.source_version}")
        roll_back(home, mark)
        line = f"Rolled back {home.path} to version {mark.source_version}, with the data from before the upgrade."
        return Outcome(result={"home": str(home.path), "rolled_back": mark.target_version}, lines=(line,))
