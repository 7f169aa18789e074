"""The first steps of an upgrade: nothing of the data is changed by them."""

from __future__ import annotations

import time
from contextlib import closing, suppress
from dataclasses import dataclass
from http import HTTPStatus

import psycopg

from mosaic_gateway import __version__
from mosaic_gateway.engines.postgres.engine_lock import running_conninfo
from mosaic_gateway.engines.session import connect
from mosaic_gateway.gateway.control import gateway_process
from mosaic_gateway.gateway.control.program import read_program
from mosaic_gateway.installation.layout import Home
from mosaic_gateway.installation.upgrade_state import Phase, UpgradeMark, read_mark, remove_mark, write_mark
from mosaic_gateway_installer.backup.creation import data_ahead, remove_leftovers
from mosaic_gateway_installer.backup.stored_backups import backups_of
from mosaic_gateway_installer.program_copy.programs import programs_of
from mosaic_gateway_installer.program_copy.store import snapshots
from mosaic_gateway_installer.upgrade.context import Upgrade

__all__ = ["CopyAheadStep", "LaunchNewStep", "MarkStep", "StageProgramStep", "StopOldStep"]

APPLICATION = "mosaic-gateway upgrade"


@dataclass(slots=True)
class StageProgramStep:
    """Puts the new program beside the old one, while that serves."""

    upgrade: Upgrade
    id: str = "program"
    _there: tuple[str, ...] | None = None

    @property
    def description(self) -> str:
        """What the step does."""
        return f"Copy version {__version__} of the gateway into {self.upgrade.context.home.runtime}"

    def done(self) -> bool:
        """Return whether it is there."""
        found = programs_of(self.upgrade.context.home).find_gateway()
        self.upgrade.target = found or ""
        return found is not None

    def apply(self) -> None:
        """Copy it, and have it on disk: the home must be able to go on with it after a power failure."""
        context = self.upgrade.context
        self._there = tuple(path.name for path in snapshots(context.home))
        self.upgrade.target = programs_of(context.home).place_gateway(durable=True)

    def undo(self) -> None:
        """Remove it."""
        if self._there is not None:
            home = self.upgrade.context.home
            programs_of(home).remove([path.name for path in snapshots(home) if path.name not in self._there])


@dataclass(slots=True)
class CopyAheadStep:
    """Copies the data while the old gateway serves, so that little is left to copy once it does not."""

    upgrade: Upgrade
    id: str = "copy"

    @property
    def description(self) -> str:
        """What the step does."""
        return f"Copy the data ahead, while version {self.upgrade.receipt.version} serves"

    def done(self) -> bool:
        """Return False: what a killed run has copied is not trusted."""
        return False

    def apply(self) -> None:
        """Copy it. Raises `DiskFullError`."""
        upgrade, context = self.upgrade, self.upgrade.context
        _write_out(context.home)
        upgrade.ahead = data_ahead(
            context.home, upgrade.receipt, context.config.engine, backups_of(context.home),
            upgrade.report,
        )  # fmt: skip
        _write_out(context.home)

    def undo(self) -> None:
        """Remove it."""
        remove_leftovers(self.upgrade.context.home)


@dataclass(slots=True)
class MarkStep:
    """Notes in the home that an upgrade is under way, and what was before."""

    upgrade: Upgrade
    id: str = "mark"

    @property
    def description(self) -> str:
        """What the step does."""
        return "Note what is there now, for the way back"

    def done(self) -> bool:
        """Return whether an upgrade to this very program is noted already."""
        mark = read_mark(self.upgrade.context.home)
        return mark is not None and mark.target_program == self.upgrade.target

    def apply(self) -> None:
        """Note it."""
        upgrade, home = self.upgrade, self.upgrade.context.home
        state = gateway_process.state_of(home)
        mark = UpgradeMark(
            phase=Phase.PREPARED,
            source_version=upgrade.receipt.version,
            source_program=upgrade.source_program,
            target_version=__version__,
            target_program=upgrade.target,
            ran=state.running or state.supervisor is not None,
            needs_setup=_asked(state),
        )
        write_mark(home, mark)

    def undo(self) -> None:
        """Note that nothing is under way."""
        remove_mark(self.upgrade.context.home)


@dataclass(slots=True)
class StopOldStep:
    """Stops the old gateway; undone, after the rest, it serves again as before."""

    upgrade: Upgrade
    id: str = "stop"
    _stopped: bool = False

    @property
    def description(self) -> str:
        """What the step does."""
        return f"Stop version {self.upgrade.receipt.version}"

    def done(self) -> bool:
        """Return whether nothing runs."""
        state = gateway_process.state_of(self.upgrade.context.home, ask=False)
        return not state.running and state.supervisor is None

    def apply(self) -> None:
        """Stop it."""
        self._stopped = True
        self.upgrade.stopped_at = time.monotonic()
        gateway_process.stop(self.upgrade.context.home)

    def undo(self) -> None:
        """Start it again."""
        if self._stopped:
            gateway_process.start(self.upgrade.context.home)


@dataclass(slots=True)
class LaunchNewStep:
    """Loads the new gateway while the data is copied; it ends by itself if we do."""

    upgrade: Upgrade
    id: str = "launch"

    @property
    def description(self) -> str:
        """What the step does."""
        return "Load the new gateway, which waits for its database"

    def done(self) -> bool:
        """Return False: one that an earlier run loaded has ended with it."""
        return False

    def apply(self) -> None:
        """Load it."""
        context = self.upgrade.context
        program = read_program(context.home.runtime / self.upgrade.target)
        self.upgrade.launched = gateway_process.launch(context.config, program, tethered=True)

    def undo(self) -> None:
        """End it."""
        if self.upgrade.launched is not None:
            self.upgrade.launched.close()


def _write_out(home: Home) -> None:
    """Have the running database write out what it holds in memory: it is copied then, and a stop is quick."""
    conninfo = running_conninfo(home)
    if conninfo is not None:
        with suppress(psycopg.Error), closing(connect(conninfo, application_name=APPLICATION)) as connection:
            connection.execute("CHECKPOINT")


def _asked(state: gateway_process.GatewayState) -> bool | None:
    """Return whether the running gateway wants a first admin, None where it says nothing."""
    from mosaic_gateway.gateway.local_client import NoAnswerError, ask

    if state.local_url is None:
        return None
    with suppress(NoAnswerError):
        status, body = ask(state.local_url, "/api/bootstrap/status")
        if status == HTTPStatus.OK and isinstance(body, dict) and isinstance(body.get("needsSetup"), bool):
            return bool(body["needsSetup"])
    return None
