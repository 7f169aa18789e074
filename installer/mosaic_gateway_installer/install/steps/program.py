"""The gateway's own copy of its program, and the link to the one in use."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass

from mosaic_gateway.gateway.control.program import ProgramMissingError, current_program
from mosaic_gateway_installer.program_copy.programs import programs_of
from mosaic_gateway_installer.program_copy.store import launcher, snapshots
from mosaic_gateway_installer.step import Context

__all__ = ["ProgramStep"]


@dataclass(slots=True)
class ProgramStep:
    """Copies this package and what it needs, and lets the gateway run from there."""

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
        """Return whether the current copy is of this very package."""
        return programs_of(self.context.home).gateway_is_ours()

    def apply(self) -> None:
        """Copy what is not there yet, and switch to it. Raises `PackageIncompleteError`, `FilesAlteredError`."""
        home, programs = self.context.home, programs_of(self.context.home)
        with suppress(ProgramMissingError):
            present = current_program(home)
            self._before = present.directory.name if present is not None else None
        self._there = tuple(path.name for path in snapshots(home))
        self._begun = True
        programs.switch(programs.place_gateway())

    def undo(self) -> None:
        """Switch back, and remove the copy that this run made."""
        home, programs = self.context.home, programs_of(self.context.home)
        if not self._begun or not home.runtime.is_dir():
            return
        programs.switch(self._before)
        programs.remove([path.name for path in snapshots(home) if path.name not in self._there])
        if home.programs is None and self._before is None:
            with suppress(OSError):
                launcher(home).unlink(missing_ok=True)
                launcher(home).parent.rmdir()
                home.runtime.rmdir()
