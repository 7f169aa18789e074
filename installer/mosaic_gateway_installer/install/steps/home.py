"""The steps that create the home directory with its receipt, and the program copy in it."""

from __future__ import annotations

import secrets
import shutil
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import ClassVar

from mosaic_gateway import __version__, fs
from mosaic_gateway.gateway.control import ProgramMissingError, current_program
from mosaic_gateway.installation import Home, Receipt, ReceiptState, read_receipt, write_receipt
from mosaic_gateway_installer.program_copy.home_programs import programs_of
from mosaic_gateway_installer.program_copy.store import program_copies
from mosaic_gateway_installer.step import Step, StepId, Target

__all__ = ["HomeStep", "ProgramStep", "unfinished_files"]

#: What an installation writes with `files.write_file`.
WRITTEN = ("receipt.json.", "config.toml.", "auth-secret.")


@dataclass(slots=True)
class HomeStep(Step):
    """Creates the home; the receipt, which marks it as an installation, is written first."""

    target: Target
    id: ClassVar[StepId] = StepId.HOME
    _created: list[Path] = field(default_factory=list)
    _before: Receipt | None = None
    _wrote_receipt: bool = False
    _existed: bool = field(init=False)

    def __post_init__(self) -> None:
        """Record whether the home exists before the step runs."""
        self._existed = self.target.home.receipt.exists()

    @property
    def description(self) -> str:
        """What the step does."""
        return f"{'Complete' if self._existed else 'Create'} {self.target.home.path}"

    def done(self) -> bool:
        """Return whether home and receipt exist, without unfinished files of a killed run."""
        home = self.target.home
        complete = _present(home) is not None and all(path.is_dir() for path in _directories(home))
        return complete and not unfinished_files(home)

    def apply(self) -> None:
        """Create what is missing."""
        target = self.target
        for path in unfinished_files(target.home):
            fs.remove_file(path)
        if _present(target.home) is None:
            self._before = read_receipt(target.home)
            self._wrote_receipt = True
            write_receipt(target.home, _first_receipt(target, self._before))
        for directory in _directories(target.home):
            if not directory.is_dir():
                self._created.append(directory)
                fs.make_directory(directory)

    def undo(self) -> None:
        """Remove what this run created, and the empty directories of steps that were undone before."""
        home = self.target.home
        for directory in self._created:
            shutil.rmtree(directory, ignore_errors=True)
        for directory in (*([home.runtime] if home.programs is None else []), home.data):
            with suppress(OSError):  # not empty, or not created
                directory.rmdir()
        if self._before is not None:
            write_receipt(home, self._before)
        elif self._wrote_receipt:
            fs.remove_file(home.receipt)


def unfinished_files(home: Home) -> list[Path]:
    """Return the temporary files of killed runs (`files.write_file`) in the home and its secrets directory."""
    return [path for directory in (home.path, home.secrets) for path in fs.temporaries(directory, *WRITTEN)]


def _present(home: Home) -> Receipt | None:
    """Return the receipt, None also for one of an installation that was purged except for what cannot be deleted."""
    receipt = read_receipt(home)
    return None if receipt is not None and receipt.state is ReceiptState.PURGING else receipt


def _first_receipt(target: Target, purged: Receipt | None) -> Receipt:
    created = target.new_directories
    return Receipt(
        instance_id=secrets.token_hex(8),
        state=ReceiptState.INSTALLING,
        version=__version__,
        engine=target.config.engine,
        engine_reason=target.engine_reason,
        created_at=datetime.now(UTC).isoformat(timespec="seconds"),
        home_created=bool(created) if purged is None else purged.home_created,
        parents_created=tuple(map(str, created[:-1])) if purged is None else purged.parents_created,
    )


def _directories(home: Home) -> tuple[Path, ...]:
    return home.secrets, home.run, home.logs


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
                home.launcher.unlink(missing_ok=True)
                home.launcher.parent.rmdir()
                home.runtime.rmdir()
