"""Read a built wheel or sdist into memory.

The build hook loads this file by path in an environment without this package, so it only uses the standard library.
"""

from __future__ import annotations

import tarfile
import zipfile
import zlib
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

__all__ = ["Archive", "ArchiveError", "read_archive"]


class ArchiveError(ValueError):
    """The file is not a readable wheel or sdist, or contains invalid names."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Archive:
    """The files of a distribution. ``files`` maps path → content; an sdist's paths are relative to its ``top``.

    ``top`` is the top-level directory of an sdist, empty for a wheel.
    """

    is_wheel: bool
    top: str
    files: Mapping[str, bytes]

    def below(self, directory: str) -> dict[str, bytes]:
        """Return the files below *directory*, with paths relative to it."""
        prefix = f"{directory}/"
        return {name.removeprefix(prefix): data for name, data in self.files.items() if name.startswith(prefix)}

    @property
    def bundles(self) -> dict[str, bytes]:
        """The files of all migration bundles, with paths relative to the directory of the bundles."""
        return self.below("mosaic_gateway/sql" if self.is_wheel else "src/mosaic_gateway/sql")


def read_archive(path: Path) -> Archive:
    """Return the content of the wheel (``.whl``) or sdist (``.tar.gz``) *path*. Raises `ArchiveError` and OSError."""
    try:
        if path.name.endswith(".whl"):
            return Archive(is_wheel=True, top="", files=_unique(_wheel_members(path)))
        if path.name.endswith(".tar.gz"):
            return _sdist(_unique(_sdist_members(path)))
    except (zipfile.BadZipFile, tarfile.TarError, zlib.error, EOFError, NotImplementedError) as error:
        raise ArchiveError(f"cannot be read: {error}") from error
    raise ArchiveError("neither a wheel (.whl) nor an sdist (.tar.gz)")


def _wheel_members(path: Path) -> list[tuple[str, bytes]]:
    with zipfile.ZipFile(path) as wheel:
        return [(entry.filename, wheel.read(entry)) for entry in wheel.infolist() if not entry.is_dir()]


def _sdist_members(path: Path) -> list[tuple[str, bytes]]:
    members = []
    with tarfile.open(path, "r:gz") as sdist:
        for entry in sdist:
            if entry.isdir():
                continue
            stream = sdist.extractfile(entry) if entry.isfile() else None
            if stream is None:
                raise ArchiveError(f"{entry.name} is not a regular file")
            members.append((entry.name, stream.read()))
    return members


def _unique(members: list[tuple[str, bytes]]) -> dict[str, bytes]:
    """Refuse duplicate names, and names outside of the archive's root directory."""
    for name, times in Counter(name for name, _ in members).items():
        if times > 1:
            raise ArchiveError(f"{name} is contained {times} times")
        if name.startswith("/") or ".." in PurePosixPath(name).parts:
            raise ArchiveError(f"{name} is outside of the archive's root directory")
    return dict(members)


def _sdist(members: dict[str, bytes]) -> Archive:
    tops = {name.split("/")[0] for name in members}
    if len(tops) != 1:
        raise ArchiveError("the files are not all in one top-level directory")
    top = tops.pop()
    return Archive(
        is_wheel=False, top=top, files={name.removeprefix(f"{top}/"): data for name, data in members.items()}
    )
