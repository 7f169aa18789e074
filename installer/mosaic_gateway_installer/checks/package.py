"""The installed package and the copies that run: every file as it was made?"""

from __future__ import annotations

from collections.abc import Sequence
from importlib import metadata
from typing import Any

from mosaic_gateway.errors import PreflightError
from mosaic_gateway.fs.recorded_files import altered_files_of
from mosaic_gateway.gateway.schema import load_bundles
from mosaic_gateway.process.root_requests import Request
from mosaic_gateway_installer.checks.finding import Check, NotCheckedError
from mosaic_gateway_installer.checks.installed_target import Installation
from mosaic_gateway_installer.program_copy.distributions import DISTRIBUTION, closure

__all__ = ["CHECKS", "PackageAlteredError", "package_faults", "summary"]

SHOWN = 5  # names in a message; the details have all


class PackageAlteredError(PreflightError):
    """Files of the program are missing or were changed after they had been installed."""

    code = "FILES_ALTERED"


def summary(files: Sequence[str]) -> str:
    """Return *files* for a message: the first few, and how many more there are."""
    more = f" and {len(files) - SHOWN} more" if len(files) > SHOWN else ""
    return f"{', '.join(files[:SHOWN])}{more}"


def _package(_find_waiting: Installation) -> str:
    count = sum(len(bundle.migrations) for bundle in load_bundles())
    return f"{count} migrations, every hash as built"


def _files(installation: Installation) -> str:
    broker = installation.home.broker  # root's package may be closed to this user
    found = broker.ask(Request.CHECK_PACKAGE)[0] if broker is not None else package_faults()
    names, pinned = found["altered"], found["pinned"]
    if names:
        raise PackageAlteredError(
            f"{len(names)} file(s) of the package are missing or were changed: {summary(names)}",
            hint=f"Install anew: pip install --force-reinstall --no-deps {' '.join(pinned)}",
            details={"files": names},
        )
    if not found["count"]:
        raise NotCheckedError("not checked: this program was not installed by pip")
    return f"{found['count']} packages, every file as installed"


def package_faults() -> dict[str, Any]:
    """Return how many distributions the installed package consists of, and which of their files are not as installed.

    ``count`` is 0 where pip did not install it, ``altered`` are files and ``pinned`` the requirements that bring them.
    Raises PreflightError, OSError.
    """
    distributions = _distributions()
    altered = {one.name: files for one in distributions if (files := altered_files_of(one))}
    pinned = [f"{one.name}=={one.version}" for one in distributions if one.name in altered]
    names = [name for files in altered.values() for name in files]
    return {"count": len(distributions), "altered": names, "pinned": pinned}


def _distributions() -> list[metadata.Distribution]:
    """Return what is installed of this program; a copy in a home has none, and is checked by its own manifest."""
    try:
        metadata.distribution(DISTRIBUTION)
    except metadata.PackageNotFoundError:
        return []
    found, programs = closure()
    return [*found.values(), *map(metadata.distribution, programs)]


CHECKS: tuple[Check[Installation], ...] = (Check(id="package", run=_package), Check(id="files", run=_files))
