"""Checks that no file of the installed package and its dependencies was changed or lost."""

from __future__ import annotations

from collections.abc import Sequence
from importlib import metadata
from typing import Any

from mosaic_gateway import fs
from mosaic_gateway.gateway import load_bundles
from mosaic_gateway.process import Request
from mosaic_gateway_installer.checks.finding import Check, NotCheckedError
from mosaic_gateway_installer.program_copy.distributions import DISTRIBUTION, closure
from mosaic_gateway_installer.program_copy.tree_writer import FilesAlteredError
from mosaic_gateway_installer.step import Target

__all__ = ["BUNDLES", "CHECKS", "package_faults", "summary"]

SHOWN = 5  # names in a message; the details have all


def summary(files: Sequence[str]) -> str:
    """Return *files* as text for a message: the first few, and the number of the others."""
    more = f" and {len(files) - SHOWN} more" if len(files) > SHOWN else ""
    return f"{', '.join(files[:SHOWN])}{more}"


def _package(_target: Target) -> str:
    count = sum(len(bundle.migrations) for bundle in load_bundles())
    return f"{count} migrations, every hash matches the lock"


def _files(target: Target) -> str:
    broker = target.home.broker  # the account may not be able to read root's package
    faults = broker.ask(Request.CHECK_PACKAGE)[0] if broker is not None else package_faults()
    names, pinned = faults["altered"], faults["pinned"]
    if names:
        raise FilesAlteredError(
            f"{len(names)} file(s) of the package are missing or were changed: {summary(names)}",
            hint=f"Reinstall: pip install --force-reinstall --no-deps {' '.join(pinned)}",
            details={"files": names},
        )
    if not faults["count"]:
        raise NotCheckedError("not checked: this program was not installed by pip")
    return f"{faults['count']} packages, every file as installed"


def package_faults() -> dict[str, Any]:
    """Check the package and its dependencies against their RECORD files.

    ``count`` is the number of distributions, 0 if pip did not install the package; ``altered`` are the missing or
    changed files; ``pinned`` are the requirements that reinstall them. Raises PreflightError, OSError.
    """
    distributions = _distributions()
    altered = {one.name: files for one in distributions if (files := fs.altered_files_of(one))}
    pinned = [f"{one.name}=={one.version}" for one in distributions if one.name in altered]
    names = [name for files in altered.values() for name in files]
    return {"count": len(distributions), "altered": names, "pinned": pinned}


def _distributions() -> list[metadata.Distribution]:
    """Return the installed distributions; none for a program copy, which has no metadata but a manifest of its own."""
    try:
        metadata.distribution(DISTRIBUTION)
    except metadata.PackageNotFoundError:
        return []
    libraries, programs = closure()
    return [*libraries.values(), *map(metadata.distribution, programs)]


BUNDLES = Check(id="package", run=_package)
CHECKS: tuple[Check, ...] = (BUNDLES, Check(id="files", run=_files))
