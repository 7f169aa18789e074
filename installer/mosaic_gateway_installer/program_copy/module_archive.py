"""Writes the modules of a snapshot into one uncompressed zip archive, from which `finder` imports them.

The format is that of a regular zip file (PKWARE's APPNOTE, 4.3), so that common tools can read it. Modification times
are not stored in it: only `finder` needs them, and they are in its index.
"""

from __future__ import annotations

import struct
from collections.abc import Collection
from importlib.machinery import EXTENSION_SUFFIXES
from zlib import crc32

__all__ = ["ModuleArchive", "archived"]

SOURCE = ".py"
PACKAGE = "/__init__.py"
ENTRY = struct.Struct("<4s5H3I2H")
CENTRAL_ENTRY = struct.Struct("<4s6H3I5H2I")
END = struct.Struct("<4s4H2IH")
VERSION, UTF8, STORED, TIME, DATE = 20, 0x800, 0, 0, 0x21  # 1980-01-01, the earliest date of the format
CREATED_ON_UNIX = 3 << 8
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
        self._entries: list[bytes] = []
        self._central_directory: list[bytes] = []
        self._size = 0
        self._index: list[str] = []

    def add(self, path: str, source: bytes, cached: str, code: bytes, mtime: int) -> None:
        """Add the module at *path* with its *source* and its byte *code*, if any, under the name *cached*.

        *mtime* is the modification time of the source in seconds, which the header of the byte code contains.
        """
        source_offset = self._add_entry(path, source)
        code_offset = self._add_entry(cached, code) if code else 0
        self._index.append(f"{source_offset},{len(source)},{code_offset},{len(code)},{mtime} {path}\n")

    def content(self) -> bytes:
        """Return the archive."""
        directory = b"".join(self._central_directory)
        count = len(self._central_directory)
        end = END.pack(b"PK\5\6", 0, 0, count, count, len(directory), self._size, 0)
        return b"".join((*self._entries, directory, end))

    def index(self) -> bytes:
        """Return the index file for `finder`."""
        return "".join(self._index).encode()

    def _add_entry(self, path: str, content: bytes) -> int:
        """Add a file, and return the offset of its content."""
        name, offset = path.encode(), self._size
        fields = (VERSION, UTF8, STORED, TIME, DATE, crc32(content), len(content), len(content), len(name), 0)
        header = ENTRY.pack(b"PK\3\4", *fields) + name
        self._entries += (header, content)
        central = CENTRAL_ENTRY.pack(b"PK\1\2", CREATED_ON_UNIX | VERSION, *fields, 0, 0, 0, MODE, offset)
        self._central_directory.append(central + name)
        self._size += len(header) + len(content)
        return offset + len(header)
