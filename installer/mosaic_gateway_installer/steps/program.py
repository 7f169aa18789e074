"""The gateway's own copy of its program in the home, and the link to the one in use."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass

from mosaic_gateway.gateway.program import Program, ProgramMissingError, current_link, current_program
from mosaic_gateway.process.account import assume
from mosaic_gateway_installer.snapshot.store import (
    is_of_this_package,
    launcher,
    make_snapshot,
    remove_snapshots,
    snapshots,
    switch_to,
    wanted_snapshot,
)
from mosaic_gateway_installer.steps.base import Context

__all__ = ["ProgramStep"]


@dataclass(slots=True)
class ProgramStep:
    """Copies this package and what it needs into the home, and lets the gateway run from there."""

    context: Context
    id: str = "program"
    _begun: bool = False
    _before: str | None = None
    _there: tuple[str, ...] = ()

    @property
    def description(self) -> str:
        """What the step does."""
        return f"Copy the gateway's program into {self.context.home.runtime}"

    def done(self) -> bool:
        """Return whether the home's current copy is of this very package."""
        present = _current(self.context)
        return present is not None and is_of_this_package(present)

    def apply(self) -> None:
        """Copy what is not there yet, and switch to it. Raises `PackageIncompleteError`, `FilesAlteredError`."""
        home, account = self.context.home, self.context.home_owner
        wanted = wanted_snapshot()
        present = _current(self.context)
        self._before = present.directory.name if present is not None else None
        self._there = tuple(path.name for path in snapshots(home))
        self._begun = True
        if wanted is None:
            raise ProgramMissingError(
                f"{current_link(home)} is damaged, and this program is such a copy itself",
                hint="Install the package (pip install mosaic-gateway), and run its mosaic-gateway install.",
            )
        switch_to(home, make_snapshot(home, wanted, account).name, account)

    def undo(self) -> None:
        """Switch back, and remove the copy that this run made."""
        if not self._begun:
            return
        home, account = self.context.home, self.context.home_owner
        if home.runtime.is_dir():
            switch_to(home, self._before, account)
            remove_snapshots(home, keep=self._there)
        with suppress(OSError), assume(account):
            if self._before is None:
                launcher(home).unlink(missing_ok=True)
                launcher(home).parent.rmdir()
            home.runtime.rmdir()


def _current(context: Context) -> Program | None:
    """Return the copy in use if it can be used."""
    with suppress(ProgramMissingError):
        program = current_program(context.home)
        if program is not None and launcher(context.home).exists():
            return program
    return None
