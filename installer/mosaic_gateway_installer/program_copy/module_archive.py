"""Puts the modules of a snapshot into one archive, in which nothing is compressed; `finder` finds them there.

The form is that of any zip file (PKWARE's APPNOTE, 4.3), so that everybody can look into it. Times are left out: who
needs a source's is `finder`, and it has an index.
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
LISTED = struct.Struct("<4s6H3I5H2I")
END = struct.Struct("<4s4H2IH")
VERSION, UTF8, STORED, TIME, DATE = 20, 0x800, 0, 0, 0x21  # 1980-01-01, the first day that the form knows
MADE_ON_UNIX = 3 << 8
MODE = 0o100600 << 16


def archived(paths: Collection[str]) -> frozenset[str]:
    """Return those of *paths* that can be found by their name alone: modules, within packages that are modules. Pure.

    A compiled module would be preferred to a source of the same name, and is no part of the archive: such stay files.
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
    """Collects modules in memory; `content` is the archive, `index` what finds them in it."""

    def __init__(self) -> None:
        self._entries: list[bytes] = []
        self._listed: list[bytes] = []
        self._size = 0
        self._index: list[str] = []

    def add(self, path: str, source: bytes, cached: str, code: bytes, changed: int) -> None:
        """Add the module at *path*: its *source*, its byte *code* under the name *cached* (empty: it has none).

        *changed* is the source's time of change in seconds, which the byte code begins with.
        """
        begins = self._entry(path, source)
        code_begins = self._entry(cached, code) if code else 0
        self._index.append(f"{begins},{len(source)},{code_begins},{len(code)},{changed} {path}\n")

    def content(self) -> bytes:
        """Return the archive."""
        directory = b"".join(self._listed)
        count = len(self._listed)
        end = END.pack(b"PK\5\6", 0, 0, count, count, len(directory), self._size, 0)
        return b"".join((*self._entries, directory, end))

    def index(self) -> bytes:
        """Return what `finder` reads."""
        return "".join(self._index).encode()

    def _entry(self, path: str, content: bytes) -> int:
        """Add a file, and return where its content begins."""
        name, begins = path.encode(), self._size
        facts = (VERSION, UTF8, STORED, TIME, DATE, crc32(content), len(content), len(content), len(name), 0)
        header = ENTRY.pack(b"PK\3\4", *facts) + name
        self._entries += (header, content)
        self._listed.append(LISTED.pack(b"PK\1\2", MADE_ON_UNIX | VERSION, *facts, 0, 0, 0, MODE, begins) + name)
        self._size += len(header) + len(content)
        return begins + len(header)
