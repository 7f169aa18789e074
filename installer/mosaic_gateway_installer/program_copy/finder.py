"""Finds the modules of a snapshot, which lie in one file: ``modules.zip``, a plain archive without compression.

A snapshot has this as a file of its own, and its ``__main__`` installs it before anything else: so it stands on the
standard library alone. Thousands of small files take long to write, to hold against their hashes and to remove again;
one does not. A module's ``__file__`` is where it would lie as a file, and what else its package holds (data,
compiled modules) does lie there; so hardly anybody can tell the difference. ``modules.index`` says where in the
archive each source is: five numbers (where source and byte code begin and how many bytes they have, and the source's
time of change, in seconds), a blank, the path. Byte code is for the Python that made the snapshot; another one finds
that it does not fit, and compiles the source (PEP 3147).
"""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping, Sequence
from importlib.machinery import ModuleSpec, PathFinder, SourceFileLoader
from importlib.util import spec_from_file_location
from types import ModuleType, TracebackType

__all__ = ["ARCHIVE", "INDEX", "ModuleFinder", "ModuleLoader", "install"]

ARCHIVE = "modules.zip"
INDEX = "modules.index"
LOWEST = 10  # below it are descriptors that others put in their place: standard streams, a worker's channel


class ModuleLoader(SourceFileLoader):
    """Loads one module from the archive, which is open as *archive*."""

    def __init__(self, name: str, path: str, numbers: str, archive: int) -> None:
        """*path* is where the source would be as a file, *numbers* what the index says of it."""
        super().__init__(name, path)
        self._source, self._source_size, self._code, self._code_size, self._changed = map(int, numbers.split(","))
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

    def set_data(self, _path: str, _data: object, *, _mode: int = 0o666) -> None:
        """Write no byte code: a snapshot stays as it was made."""


class ModuleFinder:
    """Finds what the archive in the directory *top* holds; keeps it open, so that it stays the same archive."""

    def __init__(self, top: str) -> None:
        """Raises OSError where there is no archive."""
        self._top = top
        with open(f"{top}/{INDEX}", encoding="utf-8") as stream:  # noqa: PTH123 - nothing is imported for it
            self._index = {path: numbers for numbers, path in map(str.split, stream)}
        #: The descriptor of the archive.
        self.archive = _opened(f"{top}/{ARCHIVE}")

    def find_spec(
        self, name: str, path: Sequence[str] | None = None, _target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """Return how to load *name*, None where it is not in the archive (`importlib.abc.MetaPathFinder`)."""
        stem = name.replace(".", "/")
        if path is not None and f"{self._top}/{stem.rpartition('/')[0]}" not in path:
            return None
        for ending, package in (("/__init__.py", True), (".py", False)):
            numbers = self._index.get(stem + ending)
            if numbers is not None:
                file = f"{self._top}/{stem}{ending}"
                loader = ModuleLoader(name, file, numbers, self.archive)
                inside = [f"{self._top}/{stem}"] if package else None
                return spec_from_file_location(name, file, loader=loader, submodule_search_locations=inside)
        return None


def install(top: str) -> None:
    """Let modules be found in the archive in *top*, before any directory is asked.

    Raises OSError where there is no archive.
    """
    sys.meta_path.insert(sys.meta_path.index(PathFinder), ModuleFinder(top))
    sys.excepthook = _show


def _opened(path: str) -> int:
    """Return a descriptor of *path* that no other one takes the place of."""
    opened = [os.open(path, os.O_RDONLY | os.O_CLOEXEC)]
    while opened[-1] < LOWEST:
        opened.append(os.dup(opened[-1]))
    for descriptor in opened[:-1]:
        os.close(descriptor)
    return opened[-1]


def _show(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    """Show an error that nobody caught with its lines of source, which the interpreter itself looks for in files."""
    import traceback

    traceback.print_exception(kind, error, trace)
