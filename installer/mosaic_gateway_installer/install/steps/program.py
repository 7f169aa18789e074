"""The step that creates the program copy and the link to the one in use."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass
from typing import ClassVar

from mosaic_gateway.gateway.control import ProgramMissingError, current_program
from mosaic_gateway_installer.program_copy.home_programs import programs_of
from mosaic_gateway_installer.program_copy.store import launcher, program_copies
from mosaic_gateway_installer.step import Step, StepId, Target

__all__ = ["ProgramStep"]


@dataclass(slots=True)
class ProgramStep(Step):
    """Copies this package and its dependencies into the home; the gateway runs from that copy."""

    target: Target
    id: ClassVar[StepId] = StepId.PROGRAM
    _started: bool = False
    _before: str | None = None
    _existing: tuple[str, ...] = ()

    @property
    def description(self) -> str:
        """What the step does."""
        return f"Copy the gateway's program into {self.target.home.runtime}"

    def done(self) -> bool:
        """Return whether the current program copy is a copy of this package."""
        return programs_of(self.target.home).gateway_is_this_package()

    def apply(self) -> None:
        """Create the program copy, unless it exists, and switch to it.

        Raises `PackageIncompleteError`, `FilesAlteredError`.
        """
        home, programs = self.target.home, programs_of(self.target.home)
        with suppress(ProgramMissingError):
            current = current_program(home)
            self._before = current.directory.name if current is not None else None
        self._existing = tuple(path.name for path in program_copies(home))
        self._started = True
        programs.switch(programs.place_gateway())

    def undo(self) -> None:
        """Switch back to the previous copy, and remove the copy that this run created."""
        home, programs = self.target.home, programs_of(self.target.home)
        if not self._started or not home.runtime.is_dir():
            return
        programs.switch(self._before)
        programs.remove([path.name for path in program_copies(home) if path.name not in self._existing])
        if home.programs is None and self._before is None:
            with suppress(OSError):
                launcher(home).unlink(missing_ok=True)
                launcher(home).parent.rmdir()
                home.runtime.rmdir()
