"""A template database: an empty database in the cache that is copied into new homes.

There is one template for each set of programs, in a directory that only this user can write to. It is created in a
temporary sibling and renamed, with a manifest of every file's hash against which each copy is verified. A template
that another user could have written is not used. Losing it costs the next installation five seconds.
"""

from __future__ import annotations

import hashlib
import json
import os
import stat
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path

from mosaic_gateway.engines.base import EngineError
from mosaic_gateway.engines.pglite.node import Node
from mosaic_gateway.engines.pglite.npm_packages import Shipped
from mosaic_gateway.errors import MosaicError
from mosaic_gateway.fs.files import (
    LARGE,
    NotARegularFileError,
    TooLargeError,
    make_directory,
    read_json,
    read_regular,
    write_file,
)
from mosaic_gateway.fs.record_fields import digest, mapping, relative_path
from mosaic_gateway.fs.staging import remove_temporaries, remove_tree, staged
from mosaic_gateway.process.file_lock import FileLock

__all__ = ["Template", "TemplateUnusableError", "has_template", "remove_template"]

PARENT = "pglite"  # the templates' directory in the cache
MANIFEST = "manifest.json"
DATA = "data"
LOCK_LIMIT = 60.0  # seconds to wait for another installer that creates it
LOCK = ".lock"
#: The manifest's format: path below the data → SHA-256.
HASHES = mapping(relative_path, digest)


class TemplateUnusableError(MosaicError):
    """No trusted template exists and none can be created; callers then work without one and do not report it."""

    code = "TEMPLATE_UNUSABLE"


def has_template(cache: Path, shipped: Shipped) -> bool:
    """Return whether *cache* seems to have a template, created by any version of Node.js. Reads only."""
    return any((cache / PARENT).glob(f"{_programs(shipped)}-node*"))


def _programs(shipped: Shipped) -> str:
    return f"{shipped.pglite}-{shipped.packages_digest}-{shipped.scripts_digest}"


class Template:
    """The template for one set of programs."""

    def __init__(self, cache: Path, shipped: Shipped, node: Node) -> None:
        """*cache* is the user's cache directory."""
        self._directory = cache / PARENT
        #: The paths that `ensure` created, outermost first: parents of the cache, the cache, the template.
        self.created: tuple[Path, ...] = ()
        self.path = self._directory / f"{_programs(shipped)}-node{node.version}"

    def ensure(self, create: Callable[[Path], None]) -> None:
        """Create the template unless it exists; *create* creates a database. Raises `TemplateUnusableError`."""
        try:
            self._create_parent()
            if self._is_trusted():
                return
            with FileLock(self._directory / LOCK) as lock:
                if not lock.acquire(timeout=LOCK_LIMIT):
                    raise TemplateUnusableError("another installer takes too long to create the template")
                if not self._is_trusted():
                    self._create(create)
        except (OSError, EngineError) as error:
            raise TemplateUnusableError(f"no template could be created in {self._directory}: {error}") from error

    def copy(self, target: Path) -> None:
        """Copy the database to the new directory *target* and verify every file against the manifest.

        Raises `TemplateUnusableError`; OSError, for example if the disk is full.
        """
        if not self._is_trusted():
            raise TemplateUnusableError(f"no trusted template at {self.path}")
        try:
            expected = HASHES(read_json(self.path / MANIFEST, LARGE))
        except (OSError, ValueError) as error:
            raise TemplateUnusableError(f"{self.path} has no manifest") from error
        try:
            copied = copy_tree(self.path / DATA, target)
        except (NotARegularFileError, TooLargeError):
            copied = {}
        if copied != expected:
            remove_tree(self.path)  # the next installation recreates it
            raise TemplateUnusableError(f"{self.path} differs from its manifest")

    def _create(self, create: Callable[[Path], None]) -> None:
        remove_temporaries(self._directory)  # left by killed installers, which held the lock
        with staged(self.path, replace=True, durable=False) as work:  # an existing one is not trusted
            work.mkdir(mode=0o700)
            create(work / DATA)
            write_file(work / MANIFEST, json.dumps(_hashes(work / DATA)))
        self.created = (*self.created, self.path)

    def _is_trusted(self) -> bool:
        return all(_is_private(path) for path in (self.path, self.path / DATA)) and (self.path / MANIFEST).is_file()

    def _create_parent(self) -> None:
        """Create the templates' directory. Raises `TemplateUnusableError` if other users can write to it."""
        cache = self._directory.parent
        missing = [path for path in (*reversed(cache.parents), cache, self._directory) if not path.exists()]
        make_directory(self._directory)
        self.created = tuple(missing)
        if not _is_private(self._directory):
            raise TemplateUnusableError(f"{self._directory} is writable by other users")


def copy_tree(source: Path, target: Path) -> dict[str, str]:
    """Copy the tree *source* to the new directory *target*; return path → SHA-256 of each file. Raises OSError."""
    hashes = {}
    for root, directories, names in os.walk(source):
        directory = target / Path(root).relative_to(source)
        directory.mkdir(mode=0o700)
        directories.sort()
        for name in names:
            path = Path(root, name)
            content = read_regular(path, LARGE)
            flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW
            with os.fdopen(os.open(directory / name, flags, 0o600), "wb", buffering=0) as stream:
                stream.write(content)
            hashes[path.relative_to(source).as_posix()] = hashlib.sha256(content).hexdigest()
    return hashes


def remove_template(created: Sequence[Path]) -> list[Path]:
    """Remove the paths that `Template.ensure` created, directories only if empty; return the removed paths."""
    removed = []
    for path in reversed(created):
        if not path.is_dir() or path.is_symlink():
            continue
        with suppress(OSError):
            if (path / MANIFEST).is_file():
                remove_tree(path, strict=True)
            elif {entry.name for entry in path.iterdir()} == {LOCK}:
                (path / LOCK).unlink()
        with suppress(OSError):  # already removed, or not empty
            path.rmdir()
        if not path.exists():
            removed.append(path)
    return removed


def _hashes(directory: Path) -> dict[str, str]:
    return {
        path.relative_to(directory).as_posix(): hashlib.sha256(read_regular(path, LARGE)).hexdigest()
        for path in directory.rglob("*")
        if path.is_file()
    }


def _is_private(path: Path) -> bool:
    try:
        status = path.lstat()
    except OSError:
        return False
    return stat.S_ISDIR(status.st_mode) and status.st_uid == os.geteuid() and not status.st_mode & 0o022
