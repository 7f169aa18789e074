"""The installed package and the copies that run: every file as it was made?"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from importlib import metadata

from mosaic_gateway.errors import PreflightError
from mosaic_gateway.gateway.schema import load_bundles
from mosaic_gateway.records import altered_files_of
from mosaic_gateway_installer.checks.patient import Patient
from mosaic_gateway_installer.findings import Check, NotCheckedError

__all__ = ["CHECKS", "FilesAlteredError", "closure", "told"]

DISTRIBUTION = "mosaic-gateway"
SHOWN = 5  # names in a message; the details have all


class FilesAlteredError(PreflightError):
    """Files of the program are missing or were changed after they had been installed."""

    code = "FILES_ALTERED"


def told(files: Sequence[str]) -> str:
    """Return *files* for a message: the first few, and how many more there are."""
    more = f" and {len(files) - SHOWN} more" if len(files) > SHOWN else ""
    return f"{', '.join(files[:SHOWN])}{more}"


def closure(name: str) -> Iterator[metadata.Distribution]:
    """Yield the installed distribution *name* and all that it needs, without extras."""
    seen: set[str] = set()
    waiting = [name]
    while waiting:
        wanted = re.sub(r"[-_.]+", "-", waiting.pop()).lower()
        if wanted in seen:
            continue
        seen.add(wanted)
        try:
            found = metadata.distribution(wanted)
        except metadata.PackageNotFoundError:  # needed on another system, or missing: then an import has failed
            continue
        yield found
        for requirement in found.requires or ():
            match = re.match(r"[A-Za-z0-9._-]+", requirement)
            if match is not None and "extra ==" not in requirement:
                waiting.append(match[0])


def _package(_patient: Patient) -> str:
    count = sum(len(bundle.migrations) for bundle in load_bundles())
    return f"{count} migrations, every hash as built"


def _files(_patient: Patient) -> str:
    distributions = list(closure(DISTRIBUTION))
    if not distributions:
        raise NotCheckedError("not checked: this program was not installed by pip")
    altered = {one.name: files for one in distributions if (files := altered_files_of(one))}
    if altered:
        names = [name for files in altered.values() for name in files]
        raise FilesAlteredError(
            f"{len(names)} file(s) of the package are missing or were changed: {told(names)}",
            hint=f"Install anew: pip install --force-reinstall --no-deps {' '.join(_pinned(distributions, altered))}",
            details={"files": names},
        )
    return f"{len(distributions)} packages, every file as installed"


def _pinned(distributions: Sequence[metadata.Distribution], names: dict[str, tuple[str, ...]]) -> list[str]:
    return [f"{one.name}=={one.version}" for one in distributions if one.name in names]


CHECKS: tuple[Check[Patient], ...] = (Check(id="package", run=_package), Check(id="files", run=_files))
