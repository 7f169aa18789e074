"""The steps that install PGlite's programs and create its data directory."""

from __future__ import annotations

import shutil
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import ClassVar

from mosaic_gateway.engines import pglite, postgres
from mosaic_gateway.installation import read_receipt, write_receipt
from mosaic_gateway.process import cache_directory, process_environment, runtime_directory
from mosaic_gateway_installer.program_copy.home_programs import programs_of
from mosaic_gateway_installer.root.program_directory import program_names
from mosaic_gateway_installer.step import Step, StepId, Target

__all__ = ["PgliteDataStep", "PgliteRuntimeStep"]


@dataclass(slots=True)
class PgliteRuntimeStep(Step):
    """Fetches PGlite's packages with npm, or verifies those in ``--pglite-dir``, and installs the sidecar."""

    target: Target
    id: ClassVar[StepId] = StepId.RUNTIME
    _created: tuple[str, ...] = ()

    @property
    def description(self) -> str:
        """What the step does."""
        directory = self.target.config.pglite_dir
        return f"Check PGlite in {directory}" if directory else f"Fetch PGlite into {self.target.home.runtime}"

    def done(self) -> bool:
        """Return whether all packages are installed, every file as published."""
        return pglite.is_installed(self.target.home, self.target.config.pglite_dir, shipped=pglite.shipped())

    def apply(self) -> None:
        """Fetch or verify the packages, and install the sidecar."""
        home, pglite_dir = self.target.home, self.target.config.pglite_dir
        before = set(program_names(home))
        if pglite_dir is not None:
            pglite.verify(pglite.modules_of(pglite_dir, pglite.shipped()), pglite.shipped())
        try:
            programs_of(home).place_pglite(pglite_dir)
        finally:
            created = [name for name in program_names(home) if name not in before]
            # A Node.js that replaces a recorded one stays: a gateway started meanwhile already runs on it.
            recorded = "node.json" in before
            self._created = tuple(name for name in created if not (recorded and name.startswith("node-")))

    def undo(self) -> None:
        """Remove what this run created; packages of other versions stay."""
        home = self.target.home
        programs_of(home).remove(self._created)
        if home.programs is None:
            _remove_if_empty(home.runtime)


@dataclass(slots=True)
class PgliteDataStep(Step):
    """Creates the database from the template in the cache directory, which is created first if it is missing."""

    target: Target
    id: ClassVar[StepId] = StepId.CLUSTER
    _started: bool = False
    _created: tuple[Path, ...] = ()

    @property
    def description(self) -> str:
        """What the step does."""
        return f"Create the database in {pglite.data_directory(self.target.home)}"

    def done(self) -> bool:
        """Return whether a database exists."""
        return pglite.has_data(self.target.home)

    def apply(self) -> None:
        """Create it in a temporary sibling directory and rename it; record a new template in the receipt."""
        # Imported here, while the gateway loads in parallel: importing psycopg is slow.

        self._started = True
        target, environ, versions = self.target, process_environment(), pglite.shipped()
        runtime = pglite.find_runtime(
            target.home, target.config.pglite_dir, shipped=versions, search_path=environ.get("PATH")
        )
        self._created = pglite.create_data(target.home, runtime, shipped=versions, cache=cache_directory(environ))
        receipt = read_receipt(target.home)
        if self._created and receipt is not None:
            caches = tuple(dict.fromkeys((*receipt.caches, *map(str, self._created))))
            write_receipt(target.home, replace(receipt, caches=caches))

    def undo(self) -> None:
        """Remove what this run created; it was never used."""
        if not self._started:
            return
        home = self.target.home
        for sockets in postgres.outside_directories(home, runtime_directory(process_environment())):
            shutil.rmtree(sockets, ignore_errors=True)
        shutil.rmtree(pglite.data_directory(home), ignore_errors=True)
        for path in (postgres.disk_reserve_file(home), home.data / "pglite.lock"):
            path.unlink(missing_ok=True)
        pglite.remove_template(self._created)
        _remove_if_empty(home.data)


def _remove_if_empty(directory: Path) -> None:
    with suppress(OSError):
        directory.rmdir()
