"""Imports the modules of a program copy from ``modules.zip``, an uncompressed zip archive.

A program copy contains this module as a file, and its ``__main__`` installs it before any other import, so it only uses
the standard library. The modules are in one archive because writing, hashing and deleting thousands of small files is
slow. A module's ``__file__`` is the path that it would have as a file; the other files of its package (data, compiled
modules) are in that directory. ``modules.index`` has one line per module: offset and size of the source, offset and
size of the byte code, and modification time of the source in seconds, separated by commas; then a blank and the path.
The byte code is for the Python that created the program copy; another Python compiles the source (PEP 3147).
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
LOWEST = 10  # lower descriptors are reserved: standard streams, a worker's channel


class ModuleLoader(SourceFileLoader):
    """Loads one module from the archive with the file descriptor *archive*."""

    def __init__(self, name: str, path: str, numbers: str, archive: int) -> None:
        """*path* is the path that the source would have as a file, *numbers* its numbers in the index."""
        super().__init__(name, path)
        self._source, self._source_size, self._code, self._code_size, self._mtime = map(int, numbers.split(","))
        self._archive = archive

    def get_data(self, path: str) -> bytes:
        """Return source or byte code. Raises OSError if there is no byte code."""
        if path == self.path:
            return os.pread(self._archive, self._source_size, self._source)
        if not path.endswith(".pyc"):
            return super().get_data(path)
        if not self._code_size:
            raise FileNotFoundError(path)
        return os.pread(self._archive, self._code_size, self._code)

    def path_stats(self, _path: str) -> Mapping[str, int]:
        """Return modification time and size of the source, with which its byte code is validated."""
        return {"mtime": self._mtime, "size": self._source_size}

    def set_data(self, _path: str, _data: object, *, _mode: int = 0o666) -> None:
        """Do nothing: byte code is never written to a program copy."""


class ModuleFinder:
    """Finds the modules in the archive in the directory *top*, which stays open in case the file is replaced."""

    def __init__(self, top: str) -> None:
        """Open the archive. Raises OSError if there is none."""
        self._top = top
        with open(f"{top}/{INDEX}", encoding="utf-8") as stream:  # noqa: PTH123 - avoids the import of pathlib
            self._index = {path: numbers for numbers, path in map(str.split, stream)}
        #: The descriptor of the archive.
        self.archive = _open_above_reserved(f"{top}/{ARCHIVE}")

    def find_spec(
        self, name: str, path: Sequence[str] | None = None, _target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """Return the spec of *name*, None if it is not in the archive (`importlib.abc.MetaPathFinder`)."""
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
    """Import modules from the archive in *top*, in preference to any directory. Raises OSError if there is none."""
    sys.meta_path.insert(sys.meta_path.index(PathFinder), ModuleFinder(top))
    sys.excepthook = _show


def _open_above_reserved(path: str) -> int:
    """Open *path* with a descriptor number of at least `LOWEST`."""
    opened = [os.open(path, os.O_RDONLY | os.O_CLOEXEC)]
    while opened[-1] < LOWEST:
        opened.append(os.dup(opened[-1]))
    for descriptor in opened[:-1]:
        os.close(descriptor)
    return opened[-1]


def _show(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    """Print an uncaught error with its source lines; the interpreter would search for them only in files."""
    import traceback

    traceback.print_exception(kind, error, trace)
