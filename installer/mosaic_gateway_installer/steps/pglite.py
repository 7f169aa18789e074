"""PGlite's programs and its data directory."""

from __future__ import annotations

import shutil
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path

from mosaic_gateway.config import cache_directory, process_environment, runtime_directory
from mosaic_gateway.engines.pglite.data import data_directory, has_data
from mosaic_gateway.engines.pglite.runtime import find_runtime, install_runtime, is_installed
from mosaic_gateway.engines.pglite.shipped import shipped
from mosaic_gateway.engines.pglite.template import remove_made
from mosaic_gateway.engines.postgres.ballast import ballast_file
from mosaic_gateway.engines.postgres.sockets import outside_directories
from mosaic_gateway.process.account import account_named
from mosaic_gateway_installer.receipt import read_receipt, write_receipt
from mosaic_gateway_installer.steps.base import Context

__all__ = ["PgliteDataStep", "PgliteRuntimeStep"]


@dataclass(slots=True)
class PgliteRuntimeStep:
    """Fetches PGlite's packages with npm, or checks those that are there, and puts the sidecar beside them."""

    context: Context
    id: str = "runtime"
    _made: tuple[Path, ...] = ()

    @property
    def description(self) -> str:
        """What the step does."""
        directory = self.context.config.pglite_dir
        return f"Check PGlite in {directory}" if directory else f"Fetch PGlite into {self.context.home.runtime}"

    def done(self) -> bool:
        """Return whether all of it is there, every file as published."""
        context, name = self.context, self.context.account_name
        account = account_named(name) if name is not None else None
        if name is not None and account is None:  # still to be made
            return False
        return is_installed(context.home, context.config.pglite_dir, shipped=shipped(), account=account)

    def apply(self) -> None:
        """Make it ready."""
        context = self.context
        before = _entries(context.home.runtime)
        noted = any(path.name == "node.json" for path in before)
        try:
            install_runtime(
                context.home,
                pglite_dir=context.config.pglite_dir,
                shipped=shipped(),
                account=context.account,
                environ=process_environment(),
            )
        finally:
            made = _entries(context.home.runtime) - before
            # What is noted in the place of another Node.js stays: whoever starts meanwhile runs on it already.
            self._made = tuple(path for path in made if not (noted and path.name.startswith("node-")))

    def undo(self) -> None:
        """Remove what this run made; packages of another version stay."""
        for path in self._made:
            if path.is_dir():
                shutil.rmtree(path, ignore_errors=True)
            else:
                path.unlink(missing_ok=True)
        _remove_if_empty(self.context.home.runtime)


@dataclass(slots=True)
class PgliteDataStep:
    """Makes the database, from the machine's template if there is one; else it makes that first."""

    context: Context
    id: str = "cluster"
    _begun: bool = False
    _made: tuple[Path, ...] = ()

    @property
    def description(self) -> str:
        """What the step does."""
        return f"Create the database in {data_directory(self.context.home)}"

    def done(self) -> bool:
        """Return whether there is one."""
        return has_data(self.context.home)

    def apply(self) -> None:
        """Make it in a temporary sibling and rename it; a template that was made for it goes into the receipt."""
        # Loaded now, beside the gateway that loads as well: PostgreSQL's driver takes its time.
        from mosaic_gateway.engines.pglite.creation import create_data

        self._begun = True
        context, environ, brought = self.context, process_environment(), shipped()
        runtime = find_runtime(
            context.home, context.config.pglite_dir, shipped=brought, account=context.account,
            search_path=environ.get("PATH"),
        )  # fmt: skip
        self._made = create_data(
            context.home, runtime, shipped=brought, account=context.account, cache=cache_directory(environ)
        )
        receipt = read_receipt(context.home)
        if self._made and receipt is not None:
            caches = tuple(dict.fromkeys((*receipt.caches, *map(str, self._made))))
            write_receipt(context.home, replace(receipt, caches=caches), context.home_owner)

    def undo(self) -> None:
        """Remove what this run made; nobody has used it yet."""
        if not self._begun:
            return
        home = self.context.home
        for sockets in outside_directories(home, runtime_directory(process_environment())):
            shutil.rmtree(sockets, ignore_errors=True)
        shutil.rmtree(data_directory(home), ignore_errors=True)
        for path in (ballast_file(home), home.data / "pglite.lock"):
            path.unlink(missing_ok=True)
        remove_made(self._made, self.context.account)
        _remove_if_empty(home.data)


def _entries(directory: Path) -> set[Path]:
    return set(directory.iterdir()) if directory.is_dir() else set()


def _remove_if_empty(directory: Path) -> None:
    with suppress(OSError):
        directory.rmdir()
