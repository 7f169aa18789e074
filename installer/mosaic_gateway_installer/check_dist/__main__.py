"""Check built wheels and sdists: ``python -m mosaic_gateway_installer.check_dist dist/*`` (or ``dist``).

This gate runs after the build, for archives built with the build hook disabled or by another tool. Exit code 0: no
faults; 1: faults, one per line; 2: a file cannot be read.
"""

from __future__ import annotations

import base64
import csv
import hashlib
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from mosaic_gateway.migrations import BUNDLES, LOCK_NAME, check_bundles
from mosaic_gateway_installer.check_dist.archive import Archive, ArchiveError, read_archive

__all__ = ["check_archive", "main"]

PACKAGES = ("mosaic_gateway", "mosaic_gateway_installer")
IN_PACKAGE = ("__init__.py", "py.typed")
IN_INFO = ("METADATA", "RECORD", "WHEEL", "entry_points.txt", "licenses/LICENSE")
IN_SDIST = (
    ".ci/run",
    ".gitattributes",
    "CHANGELOG.md",
    "LICENSE",
    "MANIFEST.in",
    "PKG-INFO",
    "README.md",
    "installer/hatch_build.py",
    "pyproject.toml",
    "tests/packaging/test_mutations.py",
    "tox.ini",
    *(f"src/mosaic_gateway/{name}" for name in IN_PACKAGE),
    *(f"installer/mosaic_gateway_installer/{name}" for name in IN_PACKAGE),
)


def check_archive(archive: Archive) -> tuple[str, ...]:
    """Return a sentence for each fault of *archive*; an archive without faults may be published."""
    faults = check_bundles(archive.bundles)
    if archive.is_wheel:
        return (*faults, *_check_wheel(archive.files))
    return (*faults, *(f"{name} is missing" for name in IN_SDIST if name not in archive.files))


def _check_wheel(files: Mapping[str, bytes]) -> list[str]:
    expected = [f"{package}/{name}" for package in PACKAGES for name in IN_PACKAGE]
    faults = [f"{name} is missing" for name in expected if name not in files]
    infos = sorted({name.split("/")[0] for name in files if name.split("/")[0].endswith(".dist-info")})
    if len(infos) != 1:
        return [*faults, f"expected one .dist-info directory, found {len(infos)}"]
    info = infos[0]
    foreign = {name.split("/")[0] for name in files} - {*PACKAGES, info}
    faults.extend(f"{name} does not belong in the wheel" for name in sorted(foreign))
    faults.extend(f"{info}/{name} is missing" for name in IN_INFO if f"{info}/{name}" not in files)
    return [*faults, *_check_record(f"{info}/RECORD", files)]


def _check_record(record: str, files: Mapping[str, bytes]) -> list[str]:
    """Verify each file against its line in RECORD (PEP 376, PEP 427: ``path,sha256=…,size``)."""
    if record not in files:
        return []
    lines = csv.reader(files[record].decode(errors="replace").splitlines())
    recorded = {line[0]: tuple(line[1:]) for line in lines if line}
    faults = [f"{name} is in RECORD but not in the wheel" for name in sorted(recorded.keys() - files.keys())]
    for name, data in sorted(files.items()):
        if name not in recorded:
            faults.append(f"{name} is not in RECORD")
        elif name != record and recorded[name] != _record_of(data):
            faults.append(f"{name} differs from RECORD")
    return faults


def _record_of(data: bytes) -> tuple[str, str]:
    digest = base64.urlsafe_b64encode(hashlib.sha256(data).digest()).decode().rstrip("=")
    return f"sha256={digest}", str(len(data))


def _check_same(archives: Mapping[Path, Archive]) -> list[str]:
    """Verify that all *archives*, which are published together, contain the same hash locks."""
    names = [f"{bundle}/{LOCK_NAME}" for bundle in BUNDLES]
    locks = {tuple(archive.bundles.get(name) for name in names) for archive in archives.values()}
    return ["the archives contain different hash locks"] if len(locks) > 1 else []


def main(arguments: Sequence[str] | None = None) -> int:
    """Check the files in *arguments* (default: the command line), print faults, return the exit code."""
    names = list(sys.argv[1:] if arguments is None else arguments)
    paths = [path for name in names for path in _distributions(Path(name))]
    if not paths:
        print("usage: python -m mosaic_gateway_installer.check_dist FILE|DIR...", file=sys.stderr)
        print("error: no wheel and no sdist to check", file=sys.stderr)
        return 2
    archives: dict[Path, Archive] = {}
    for path in paths:
        try:
            archives[path] = read_archive(path)
        except OSError as error:
            print(f"{path}: cannot be read: {error.strerror or error}", file=sys.stderr)
            return 2
        except ArchiveError as error:
            print(f"{path}: {error}", file=sys.stderr)
            return 2
    return _report(archives)


def _distributions(path: Path) -> list[Path]:
    return sorted([*path.glob("*.whl"), *path.glob("*.tar.gz")]) if path.is_dir() else [path]


def _report(archives: Mapping[Path, Archive]) -> int:
    faulty = False
    for path, archive in archives.items():
        faults = check_archive(archive)
        faulty = faulty or bool(faults)
        print(f"{path}: {len(faults)} faults" if faults else f"{path}: no faults")
        for fault in faults:
            print(f"  {fault}")
    for fault in _check_same(archives):
        faulty = True
        print(fault)
    return int(faulty)


if __name__ == "__main__":
    sys.exit(main())
