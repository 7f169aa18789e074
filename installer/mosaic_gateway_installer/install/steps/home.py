"""The step that creates the home directory and its receipt."""

from __future__ import annotations

import secrets
import shutil
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import ClassVar

from mosaic_gateway import __version__, fs
from mosaic_gateway.installation import Home, Receipt, ReceiptState, read_receipt, write_receipt
from mosaic_gateway_installer.step import Step, StepId, Target

__all__ = ["HomeStep", "unfinished_files"]

#: What an installation writes with `files.write_file`.
WRITTEN = ("receipt.json.", "config.toml.", "auth-secret.")


@dataclass(slots=True)
class HomeStep(Step):
    """Creates the home; the receipt, which marks it as an installation, is written first."""

    target: Target
    id: ClassVar[StepId] = StepId.HOME
    _created: list[Path] = field(default_factory=list)
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
        complete = read_receipt(home) is not None and all(path.is_dir() for path in _directories(home))
        return complete and not unfinished_files(home)

    def apply(self) -> None:
        """Create what is missing."""
        target = self.target
        for path in unfinished_files(target.home):
            fs.remove_file(path)
        if read_receipt(target.home) is None:
            self._wrote_receipt = True
            write_receipt(target.home, _first_receipt(target))
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
        if self._wrote_receipt:
            fs.remove_file(home.receipt)


def unfinished_files(home: Home) -> list[Path]:
    """Return the temporary files of killed runs (`files.write_file`) in the home and its secrets directory."""
    return [path for directory in (home.path, home.secrets) for path in fs.temporaries(directory, *WRITTEN)]


def _first_receipt(target: Target) -> Receipt:
    return Receipt(
        instance_id=secrets.token_hex(8),
        state=ReceiptState.INSTALLING,
        version=__version__,
        engine=target.config.engine,
        engine_reason=target.engine_reason,
        created_at=datetime.now(UTC).isoformat(timespec="seconds"),
        home_created=bool(target.new_directories),
        parents_created=tuple(map(str, target.new_directories[:-1])),
    )


def _directories(home: Home) -> tuple[Path, ...]:
    return home.secrets, home.run, home.logs
