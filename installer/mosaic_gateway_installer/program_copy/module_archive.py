"""Writes the modules of a program copy into one uncompressed zip archive, from which `finder` imports them.

Modification times are not stored in it: only `finder` needs them, and they are in its index.
"""

from __future__ import annotations

import io
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from importlib.machinery import EXTENSION_SUFFIXES
from zipfile import ZipFile, ZipInfo

__all__ = ["Module", "archive_of", "archived"]

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


@dataclass(frozen=True, slots=True, kw_only=True)
class Module:
    """A module: its ``source``, and its byte ``code``, if any, under the name ``cached``.

    ``mtime`` is the modification time of the source in seconds, which the header of the byte code contains.
    """

    path: str
    source: bytes
    cached: str
    code: bytes
    mtime: int


def archive_of(modules: Iterable[Module]) -> tuple[bytes, bytes]:
    """Return the archive of *modules* and the index file for `finder`, which has the offsets in it. Pure."""
    content = io.BytesIO()
    index = []
    with ZipFile(content, "w") as archive:

        def add(path: str, data: bytes) -> int:
            entry = ZipInfo(path)  # of 1980-01-01, the earliest date of the format
            entry.external_attr = MODE
            archive.writestr(entry, data)
            return content.seek(0, io.SEEK_END) - len(data)

        for one in modules:
            source, code = add(one.path, one.source), add(one.cached, one.code) if one.code else 0
            index.append(f"{source},{len(one.source)},{code},{len(one.code)},{one.mtime} {one.path}\n")
    return content.getvalue(), "".join(index).encode()
