"""Installs, switches, sets aside and removes the programs of an installation.

An ordinary user's programs are in the home and are changed by the verb's process. The programs of an installation by
root are in a directory owned by root and are changed by root's process, on request (`broker`).
"""

from __future__ import annotations

from collections.abc import Collection
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from mosaic_gateway import fs
from mosaic_gateway.engines import RuntimeMissingError, pglite, postgres
from mosaic_gateway.gateway.control import ProgramMissingError, current_program
from mosaic_gateway.hint import command
from mosaic_gateway.installation import Home
from mosaic_gateway.process import Broker, Request, process_environment
from mosaic_gateway_installer.program_copy.store import (
    find_copy,
    is_of_this_package,
    make_copy,
    runs_from_copy,
    switch_to,
    wanted_copy,
)
from mosaic_gateway_installer.root.program_directory import OWN_NAMES, program_names

__all__ = ["LocalPrograms", "Programs", "programs_of"]


class Programs(Protocol):
    """Changes the programs of one installation. Every method raises MosaicError and OSError.

    "This package" is the installed distribution that the process runs from.
    """

    def can_place(self) -> bool:
        """Return whether this package can be copied: a program copy cannot copy itself."""

    def gateway_is_this_package(self) -> bool:
        """Return whether the program in use is a complete copy of this package."""

    def find_gateway(self) -> str | None:
        """Return the name of a complete copy of this package, in use or not; None if there is none."""

    def place_gateway(self, *, durable: bool = False) -> str:
        """Copy this package, unless a copy exists; return the copy's name. *durable*: call fsync before the return."""

    def switch(self, name: str | None) -> None:
        """Make the copy *name* the one in use; None: no copy."""

    def place_postgres(self) -> postgres.Runtime:
        """Copy the package's PostgreSQL, unless a copy exists, and return it."""

    def place_pglite(self, pglite_dir: Path | None) -> None:
        """Install PGlite; its packages are fetched with npm unless *pglite_dir* contains them."""

    def remove(self, names: Collection[str]) -> tuple[str, ...]:
        """Remove the programs *names*; return the names of those that existed."""

    def set_aside(self, names: Collection[str]) -> None:
        """Rename the PostgreSQL directories *names*, so that they are not found as programs."""

    def put_back(self) -> None:
        """Rename what was set aside to its original names."""

    def tools(self, scratch: Home) -> postgres.Runtime:
        """Return the package's PostgreSQL for temporary use, copied to *scratch* if there is no copy in the home."""


def programs_of(home: Home) -> Programs:
    """Return the `Programs` implementation for *home*."""
    if home.broker is not None and home.programs is not None:
        return _RootsPrograms(home, home.broker)
    return LocalPrograms(home)


@dataclass(frozen=True, slots=True)
class LocalPrograms:
    """Implements `Programs` in this process. Node.js is searched for on ``search_path``."""

    home: Home
    search_path: str | None = field(default_factory=lambda: process_environment().get("PATH"))

    def can_place(self) -> bool:
        """See `Programs`."""
        return not runs_from_copy()

    def gateway_is_this_package(self) -> bool:
        """See `Programs`."""
        with suppress(ProgramMissingError):
            program = current_program(self.home)
            return program is not None and self.home.launcher.exists() and is_of_this_package(program)
        return False

    def find_gateway(self) -> str | None:
        """See `Programs`."""
        wanted = wanted_copy()
        copy = find_copy(self.home, wanted) if wanted is not None else None
        return copy.name if copy is not None else None

    def place_gateway(self, *, durable: bool = False) -> str:
        """See `Programs`."""
        wanted = wanted_copy()
        if wanted is None:
            raise ProgramMissingError(
                "this program is the installation's program copy, which cannot be copied",
                hint="Install the package (pip install mosaic-gateway), and run its " + command("install") + ".",
            )
        return make_copy(self.home, wanted, durable=durable).name

    def switch(self, name: str | None) -> None:
        """See `Programs`."""
        switch_to(self.home, name)

    def place_postgres(self) -> postgres.Runtime:
        """See `Programs`."""
        return postgres.install_runtime(self.home, postgres_bin=None)

    def place_pglite(self, pglite_dir: Path | None) -> None:
        """See `Programs`."""
        environ = {**process_environment(), "PATH": self.search_path or ""}
        pglite.install_runtime(self.home, pglite_dir=pglite_dir, shipped=pglite.shipped(), environ=environ)

    def place_scripts(self) -> None:
        """Install PGlite without its packages, which are in another directory."""
        pglite.install_scripts(self.home, shipped=pglite.shipped(), search_path=self.search_path)

    def remove(self, names: Collection[str]) -> tuple[str, ...]:
        """See `Programs`."""
        existing = [self.home.runtime / name for name in program_names(self.home) if name in names]
        fs.erase((*existing, *(one.path for one in fs.lying_aside(self.home.runtime, OWN_NAMES, fs.Reason.ERASED))))
        return tuple(path.name for path in existing)

    def set_aside(self, names: Collection[str]) -> None:
        """See `Programs`."""
        own = [name for name in program_names(self.home) if name in names and name.startswith("postgresql-")]
        fs.set_aside([self.home.runtime / name for name in own], fs.Reason.REVERTED)

    def put_back(self) -> None:
        """See `Programs`."""
        fs.put_back(fs.lying_aside(self.home.runtime, OWN_NAMES, fs.Reason.REVERTED))

    def tools(self, scratch: Home) -> postgres.Runtime:
        """See `Programs`."""
        return postgres.install_runtime(scratch, postgres_bin=None)


@dataclass(frozen=True, slots=True)
class _RootsPrograms:
    """Implements `Programs` with requests to root's process."""

    home: Home
    broker: Broker

    def can_place(self) -> bool:
        return bool(self._state("can_place"))

    def gateway_is_this_package(self) -> bool:
        return bool(self._state("is_ours"))

    def find_gateway(self) -> str | None:
        name = self._state("found")
        return str(name) if name is not None else None

    def place_gateway(self, *, durable: bool = False) -> str:
        return str(self.broker.ask(Request.PLACE_PROGRAM, {"durable": durable})[0]["name"])

    def switch(self, name: str | None) -> None:
        self.broker.ask(Request.SWITCH_PROGRAM, {"name": name})

    def place_postgres(self) -> postgres.Runtime:
        self.broker.ask(Request.PLACE_POSTGRES)
        return postgres.find_runtime(self.home, None)

    def place_pglite(self, pglite_dir: Path | None) -> None:
        self.broker.ask(Request.PLACE_PGLITE, {"packages": pglite_dir is None})

    def remove(self, names: Collection[str]) -> tuple[str, ...]:
        return tuple(self.broker.ask(Request.REMOVE_PROGRAMS, {"names": list(names)})[0]["removed"])

    def set_aside(self, names: Collection[str]) -> None:
        self.broker.ask(Request.SET_ASIDE_PROGRAMS, {"names": list(names)})

    def put_back(self) -> None:
        if fs.lying_aside(self.home.runtime, OWN_NAMES, fs.Reason.REVERTED):
            self.broker.ask(Request.PUT_BACK_PROGRAMS)

    def tools(self, scratch: Home) -> postgres.Runtime:
        del scratch
        with suppress(RuntimeMissingError):
            return postgres.find_runtime(self.home, None)
        return self.place_postgres()

    def _state(self, question: str) -> object:
        return self.broker.ask(Request.PROGRAM_STATE, {"question": question})[0]["answer"]
