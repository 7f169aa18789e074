"""The programs of an installation: put in place, switched, set aside and removed, wherever they lie.

An ordinary user's lie in the home, and the verb itself does it. Those of an installation that root made lie in a
directory of root's; there root's process does the same, on request (`broker`).
"""

from __future__ import annotations

import secrets
import shutil
from collections.abc import Collection
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from mosaic_gateway.config import process_environment
from mosaic_gateway.engines.base import RuntimeMissingError
from mosaic_gateway.engines.pglite.pinned_versions import shipped
from mosaic_gateway.engines.pglite.runtime import install_runtime as install_pglite
from mosaic_gateway.engines.pglite.runtime import install_scripts
from mosaic_gateway.engines.postgres.runtime import Runtime, find_runtime
from mosaic_gateway.engines.postgres.runtime import install_runtime as install_postgres
from mosaic_gateway.gateway.control.program import ProgramMissingError, current_program
from mosaic_gateway.installation.layout import Home
from mosaic_gateway.process.root_requests import Broker, Request
from mosaic_gateway_installer.backup.tree_copy import sync_directory
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
    """Changes the programs of one installation. Every method raises MosaicError and OSError."""

    def can_place(self) -> bool:
        """Return whether the present package can be put in place: a copy cannot copy itself."""

    def gateway_is_ours(self) -> bool:
        """Return whether the program in use is a whole copy of the present package."""

    def find_gateway(self) -> str | None:
        """Return the name of a whole copy of the present package, in use or not."""

    def place_gateway(self, *, durable: bool = False) -> str:
        """Copy the present package, unless it is there; return the copy's name. *durable*: on disk."""

    def switch(self, name: str | None) -> None:
        """Let the copy *name* (None: none) be the one in use."""

    def place_postgres(self) -> Runtime:
        """Copy the package's PostgreSQL, unless it is there, and return it."""

    def place_pglite(self, pglite_dir: Path | None) -> None:
        """Make PGlite ready; its packages are fetched unless *pglite_dir* holds them."""

    def remove(self, names: Collection[str]) -> tuple[str, ...]:
        """Remove what is there of *names*; return what went."""

    def set_aside(self, names: Collection[str]) -> None:
        """Give PostgreSQL's programs *names* others, by which they are not found."""

    def put_back(self) -> None:
        """Give back the names of what was set aside."""

    def tools(self, scratch: Home) -> Runtime:
        """Return the package's PostgreSQL for a short use, in *scratch* if it lies nowhere else."""


def programs_of(home: Home) -> Programs:
    """Return who changes the programs of *home*."""
    if home.broker is not None and home.programs is not None:
        return _RootsPrograms(home, home.broker)
    return LocalPrograms(home)


@dataclass(frozen=True, slots=True)
class LocalPrograms:
    """Changes the programs of ``home`` itself; implements `Programs`. Node.js is looked for on ``search_path``."""

    home: Home
    search_path: str | None = field(default_factory=lambda: process_environment().get("PATH"))

    def can_place(self) -> bool:
        """See `Programs`."""
        return not is_snapshot()

    def gateway_is_ours(self) -> bool:
        """See `Programs`."""
        with suppress(ProgramMissingError):
            program = current_program(self.home)
            return program is not None and launcher(self.home).exists() and is_of_this_package(program)
        return False

    def find_gateway(self) -> str | None:
        """See `Programs`."""
        wanted = wanted_snapshot()
        found = find_snapshot(self.home, wanted) if wanted is not None else None
        return found.name if found is not None else None

    def place_gateway(self, *, durable: bool = False) -> str:
        """See `Programs`."""
        wanted = wanted_snapshot()
        if wanted is None:
            raise ProgramMissingError(
                "this program is the installation's own copy, which cannot be copied from itself",
                hint="Install the package (pip install mosaic-gateway), and run its mosaic-gateway install.",
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
        """Make PGlite ready but for its packages, which lie elsewhere."""
        install_scripts(self.home, shipped=shipped(), search_path=self.search_path)

    def remove(self, names: Collection[str]) -> tuple[str, ...]:
        """See `Programs`."""
        there = [self.home.runtime / name for name in program_names(self.home) if name in names]
        for path in there:
            gone = path.with_name(f".{path.name.strip('.')}.{secrets.token_hex(4)}.tmp")
            path.rename(gone)
            if gone.is_dir() and not gone.is_symlink():
                shutil.rmtree(gone)
            else:
                gone.unlink()
        return tuple(path.name for path in there)

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
    """Has root's process change the programs of ``home``; implements `Programs`."""

    home: Home
    broker: Broker

    def can_place(self) -> bool:
        return bool(self._state("can_place"))

    def gateway_is_ours(self) -> bool:
        return bool(self._state("is_ours"))

    def find_gateway(self) -> str | None:
        found = self._state("found")
        return str(found) if found is not None else None

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
