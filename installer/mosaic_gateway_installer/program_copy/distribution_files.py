"""What of an installed distribution is copied, and by what it is known again.

RECORD (PEP 376, PEP 627) lists its files with their hashes. A distribution without one, or one that is installed
editable, has only what the import system finds: its packages are copied as they are, and its part says so.
"""

from __future__ import annotations

import csv
import hashlib
import importlib.util
import json
import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path, PurePosixPath

from mosaic_gateway_installer.program_copy.distributions import DISTRIBUTION, PackageIncompleteError

__all__ = ["Part", "SourceFile", "part_of"]

OUR_PACKAGES = ("mosaic_gateway", "mosaic_gateway_installer")
#: Of a distribution's metadata: written anew, or about the machine that it was installed on.
NOT_COPIED = frozenset({"RECORD", "RECORD.jws", "RECORD.p7s", "direct_url.json"})
LONGEST_TOP_LEVEL = 2  # parts of a path: package.dist-info/FILE
CACHE = "__pycache__"


@dataclass(frozen=True, slots=True)
class SourceFile:
    """A file to copy: from where, to which path below the snapshot, and its recorded hash (``sha256=…``).

    Texts, because a Path takes ten times as long to join and to take apart, and there are hundreds of them.
    """

    source: str
    target: str
    recorded: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """One distribution. ``digest`` changes when its files do; ``verified``: every file has a recorded hash."""

    name: str
    version: str
    digest: str
    verified: bool
    info: str
    _distribution: metadata.Distribution

    def files(self) -> list[SourceFile]:
        """Return what is copied, by target."""
        found = _recorded(self._distribution) if self.verified else _loose(self.name, self._distribution)
        return sorted(found, key=lambda file: file.target)


def part_of(name: str, distribution: metadata.Distribution) -> Part:
    """Return the part that *distribution*, called *name*, is. Raises `PackageIncompleteError`, OSError."""
    record = None if _is_editable(distribution) else distribution.read_text("RECORD")
    if record is not None:
        digest = hashlib.sha256(record.encode()).hexdigest()
    else:
        digest = _digest_of(_loose(name, distribution))
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
        if _belongs(path):
            yield SourceFile(f"{base}/{path}", path, recorded or None)


def _belongs(path: str) -> bool:
    """Return whether *path* of a RECORD is copied: what is in site-packages, without caches and `NOT_COPIED`."""
    parts = path.split("/")
    if path.startswith("/") or ".." in parts or CACHE in parts or path.endswith(".pth"):
        return False
    return not (len(parts) == LONGEST_TOP_LEVEL and parts[0].endswith(".dist-info") and parts[1] in NOT_COPIED)


def _loose(name: str, distribution: metadata.Distribution) -> list[SourceFile]:
    """Return the packages that the import system finds for *distribution*, and its metadata."""
    found: list[SourceFile] = []
    for package in _top_level(name, distribution):
        spec = importlib.util.find_spec(package)
        if spec is None or spec.origin is None:
            raise PackageIncompleteError(
                f"the package {name} is installed without a list of its files, and {package} cannot be found",
                hint=f"Install it anew: pip install --force-reinstall {name}",
            )
        origin = Path(spec.origin)
        found += _below(origin.parent, package) if spec.submodule_search_locations else [_single(origin, origin.name)]
    info = f"{name.replace('-', '_')}-{distribution.version}.dist-info"
    for file in ("METADATA", "entry_points.txt"):
        place = _metadata_file(distribution, file)
        if place is not None:
            found.append(_single(place, f"{info}/{file}"))
    return found


def _top_level(name: str, distribution: metadata.Distribution) -> Iterable[str]:
    if name == DISTRIBUTION:
        return OUR_PACKAGES
    listed = distribution.read_text("top_level.txt")
    return listed.split() if listed else (name.replace("-", "_"),)


def _metadata_file(distribution: metadata.Distribution, name: str) -> Path | None:
    """Return where *name* of the metadata lies; a Debian package's METADATA may be called PKG-INFO."""
    directory = getattr(distribution, "_path", None)
    candidates = (name, "PKG-INFO") if name == "METADATA" else (name,)
    if isinstance(directory, Path):
        return next((directory / one for one in candidates if (directory / one).is_file()), None)
    return None


def _below(directory: Path, package: str) -> list[SourceFile]:
    found = []
    for root, directories, names in os.walk(directory):
        directories[:] = sorted(one for one in directories if one != CACHE)
        place = PurePosixPath(package, Path(root).relative_to(directory).as_posix())
        found += [_single(Path(root, name), str(place / name)) for name in sorted(names)]
    return found


def _single(path: Path, target: str) -> SourceFile:
    return SourceFile(str(path), target, None)


def _digest_of(files: Iterable[SourceFile]) -> str:
    """Return a digest that changes when a file is written: hashing them all would take too long for a look."""
    digest = hashlib.sha256()
    for file in files:
        status = os.stat(file.source)  # noqa: PTH116 - see SourceFile
        digest.update(f"{file.target}\0{status.st_size}\0{status.st_mtime_ns}\n".encode())
    return digest.hexdigest()
