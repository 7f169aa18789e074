"""Writes the modules of a snapshot into one uncompressed zip archive, from which `finder` imports them.

Modification times are not stored in it: only `finder` needs them, and they are in its index.
"""

from __future__ import annotations

import io
from collections.abc import Collection
from importlib.machinery import EXTENSION_SUFFIXES
from zipfile import ZipFile, ZipInfo

__all__ = ["ModuleArchive", "archived"]

SOURCE = ".py"
PACKAGE = "/__init__.py"
MODE = 0o100600 << 16


def archived(paths: Collection[str]) -> frozenset[str]:
    """Return the *paths* to store in the archive: modules whose parent packages are all regular packages. Pure.

    If a compiled module has the same name as a source, the source is not archived, because the import system prefers
    the compiled module, which stays a file.
    """
    compiled = {path.removesuffix(ending) for path in paths for ending in EXTENSION_SUFFIXES if path.endswith(ending)}
    modules = {
        path
        for path in paths
        if path.endswith(SOURCE)
        and all(map(str.isidentifier, path.removesuffix(SOURCE).split("/")))
        and path.removesuffix(SOURCE) not in compiled
    }

    def is_package(directory: str) -> bool:
        return not directory or (directory + PACKAGE in modules and is_package(directory.rpartition("/")[0]))

    return frozenset(path for path in modules if is_package(path.rpartition("/")[0]))


class ModuleArchive:
    """Collects modules in memory; `content` returns the archive, `index` the offsets of the modules in it."""

    def __init__(self) -> None:
        self._content = io.BytesIO()
        self._archive = ZipFile(self._content, "w")
        self._index: list[str] = []

    def add(self, path: str, source: bytes, cached: str, code: bytes, mtime: int) -> None:
        """Add the module at *path* with its *source* and its byte *code*, if any, under the name *cached*.

        *mtime* is the modification time of the source in seconds, which the header of the byte code contains.
        """
        source_offset = self._add_entry(path, source)
        code_offset = self._add_entry(cached, code) if code else 0
        self._index.append(f"{source_offset},{len(source)},{code_offset},{len(code)},{mtime} {path}\n")

    def content(self) -> bytes:
        """Return the archive, to which nothing can be added then."""
        self._archive.close()
        return self._content.getvalue()

    def index(self) -> bytes:
        """Return the index file for `finder`."""
        return "".join(self._index).encode()

    def _add_entry(self, path: str, content: bytes) -> int:
        """Add a file, and return the offset of its content."""
        entry = ZipInfo(path)  # of 1980-01-01, the earliest date of the format
        entry.external_attr = MODE
        self._archive.writestr(entry, content)
        return self._content.tell() - len(content)
