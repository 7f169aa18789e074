"""Finds the modules of a snapshot, which lie in one file: ``modules.zip``, a plain archive without compression.

A snapshot has this as a file of its own, and its ``__main__`` installs it before anything else: so it stands on the
standard library alone. Thousands of small files take long to write, to hold against their hashes and to remove again;
one does not. A module's ``__file__`` is where it would lie as a file, and what else its package holds (data,
compiled modules) does lie there; so nobody can tell the difference. ``modules.index`` says where in the archive each
source is (path → offset and size of source and byte code, and the source's time of change, in seconds).
"""

from __future__ import annotations

import marshal
import os
import sys
from collections.abc import Mapping, Sequence
from importlib.machinery import ModuleSpec, PathFinder, SourceFileLoader
from importlib.util import spec_from_file_location
from types import ModuleType

__all__ = ["ARCHIVE", "INDEX", "ModuleFinder", "ModuleLoader", "Place", "install"]

ARCHIVE = "modules.zip"
INDEX = "modules.index"

Place = tuple[int, int, int, int, int]


class ModuleLoader(SourceFileLoader):
    """Loads one module from the archive, which is open as *archive*."""

    def __init__(self, name: str, path: str, place: Place, archive: int) -> None:
        """*path* is where the source would be as a file, *place* what the index says of it."""
        super().__init__(name, path)
        self._source, self._source_size, self._code, self._code_size, self._changed = place
        self._archive = archive

    def get_data(self, path: str) -> bytes:
        """Return source or byte code. Raises OSError where there is no byte code."""
        if path == self.path:
            return os.pread(self._archive, self._source_size, self._source)
        if not path.endswith(".pyc"):
            return super().get_data(path)
        if not self._code_size:
            raise FileNotFoundError(path)
        return os.pread(self._archive, self._code_size, self._code)

    def path_stats(self, _path: str) -> Mapping[str, int]:
        """Return by what byte code is known to fit its source."""
        return {"mtime": self._changed, "size": self._source_size}


class ModuleFinder:
    """Finds what the archive in the directory *top* holds; keeps it open, so that it stays the same archive."""

    def __init__(self, top: str) -> None:
        """Raises OSError where there is no archive."""
        self._top = top
        with open(f"{top}/{INDEX}", "rb", buffering=0) as stream:  # noqa: PTH123 - nothing is imported for it
            self._index: dict[str, Place] = marshal.loads(stream.readall())  # noqa: S302 - as trusted as byte code
        self._archive = os.open(f"{top}/{ARCHIVE}", os.O_RDONLY | os.O_CLOEXEC)

    def find_spec(
        self, name: str, path: Sequence[str] | None = None, _target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """Return how to load *name*, None where it is not in the archive (`importlib.abc.MetaPathFinder`)."""
        stem = name.replace(".", "/")
        if path is not None and f"{self._top}/{stem.rpartition('/')[0]}" not in path:
            return None
        for ending, package in (("/__init__.py", True), (".py", False)):
            place = self._index.get(stem + ending)
            if place is not None:
                file = f"{self._top}/{stem}{ending}"
                loader = ModuleLoader(name, file, place, self._archive)
                inside = [f"{self._top}/{stem}"] if package else None
                return spec_from_file_location(name, file, loader=loader, submodule_search_locations=inside)
        return None


def install(top: str) -> None:
    """Let modules be found in the archive in *top*, before any directory is asked."""
    place = sys.meta_path.index(PathFinder)
    sys.meta_path.insert(place, ModuleFinder(top))
