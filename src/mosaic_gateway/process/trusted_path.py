"""Resolves a path for root and determines its owner, without components that another user can replace.

Theory of operation. The path is opened component by component, each relative to the previous one. A directory that
belongs to root and that only root can write is trusted, and so are symbolic links in it. From the first component that
belongs to another user, all further components must belong to that user, and links are refused. That user can replace
components, but only by files of their own, and root's command then runs as that user. In a world-writable directory
(``/tmp``) the sticky bit prevents other users from renaming an entry.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from mosaic_gateway.errors import PreflightError

__all__ = ["FoundPath", "UnsafePathError", "find_path", "open_directory"]

OPEN_DIRECTORY = getattr(os, "O_PATH", os.O_RDONLY) | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
MOST_LINKS = 16
MODE = 0o755  # of created directories
OTHERS_WRITE = stat.S_IWGRP | stat.S_IWOTH


class UnsafePathError(PreflightError):
    """Root does not use this path, because another user can replace a component of it."""

    code = "PATH_UNSAFE"


@dataclass(frozen=True, slots=True, kw_only=True)
class FoundPath:
    """A resolved path. ``path`` contains no symbolic links.

    ``parent`` is an open descriptor of the deepest existing directory above it; ``missing`` are the names of the
    components below that do not exist (none if the path exists). ``status`` is the stat result of the path itself.
    """

    path: Path
    parent: int
    missing: tuple[str, ...]
    status: os.stat_result | None

    @property
    def name(self) -> str:
        """The last component."""
        return self.path.name

    @property
    def owner(self) -> int | None:
        """The user id of the owner, None if the path does not exist."""
        return self.status.st_uid if self.status is not None else None

    @property
    def is_directory(self) -> bool:
        """Whether the path is an existing directory."""
        return self.status is not None and stat.S_ISDIR(self.status.st_mode)


@contextmanager
def find_path(path: Path, *, roots: bool = False) -> Iterator[FoundPath]:
    """Resolve the absolute *path* and yield it; its descriptor is open in the block. Raises `UnsafePathError`, OSError.

    With *roots*, all components must belong to root and no directory may be writable by others, even with sticky bit.
    """
    walk = _Walk(path, roots=roots)
    try:
        yield walk.run()
    finally:
        os.close(walk.directory)


def open_directory(found: FoundPath) -> int:
    """Open the directory *found* and return its descriptor; missing components are created (mode 0755).

    Raises FileExistsError if another process creates one at the same time, NotADirectoryError, OSError.
    """
    directory = os.dup(found.parent)
    try:
        for name in found.missing or (found.name,):
            if found.missing:
                os.mkdir(name, MODE, dir_fd=directory)
            inner = os.open(name, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=directory)
            os.close(directory)
            directory = inner
            if found.missing:
                os.fchmod(directory, MODE)
    except BaseException:
        os.close(directory)
        raise
    return directory


class _Walk:
    """Resolves a path from the root directory down."""

    def __init__(self, path: Path, *, roots: bool) -> None:
        self._path = path
        self._roots = roots
        self._links = 0
        self._foreign: int | None = None  # user id of the first component that does not belong to root
        self._passed: list[str] = []
        self.directory = os.open("/", OPEN_DIRECTORY)

    def run(self) -> FoundPath:
        pending = _parts(self._path)
        while pending:
            name = pending.pop(0)
            here = os.fstat(self.directory)
            self._check_directory(here)
            try:
                status = os.stat(name, dir_fd=self.directory, follow_symlinks=False)
            except FileNotFoundError:
                missing = (name, *pending)
                return self._found("/".join((*self._passed, *missing)), missing, None)
            if stat.S_ISLNK(status.st_mode):
                pending = self._follow(name, here, status) + pending
                continue
            self._check_entry(name, here, status)
            if not pending:
                return self._found("/".join((*self._passed, name)), (), status)
            self._enter(name)
        return FoundPath(path=Path("/"), parent=self.directory, missing=(), status=os.fstat(self.directory))

    def _found(self, path: str, missing: tuple[str, ...], status: os.stat_result | None) -> FoundPath:
        return FoundPath(path=Path("/" + path), parent=self.directory, missing=missing, status=status)

    def _enter(self, name: str) -> None:
        descriptor = os.open(name, OPEN_DIRECTORY, dir_fd=self.directory)
        os.close(self.directory)
        self.directory = descriptor
        self._passed.append(name)

    def _follow(self, name: str, here: os.stat_result, link: os.stat_result) -> list[str]:
        """Return the components of the target of a link owned by root; the walk restarts at the root directory."""
        self._links += 1
        trusted = here.st_uid == link.st_uid == 0 and not here.st_mode & OTHERS_WRITE
        if not trusted or self._links > MOST_LINKS:
            raise self._unsafe(f"{self._named(name)} is a symbolic link")
        target = os.readlink(name, dir_fd=self.directory)
        parts = _parts(Path(target) if target.startswith("/") else Path("/", *self._passed, target))
        os.close(self.directory)
        self.directory = os.open("/", OPEN_DIRECTORY)
        self._passed = []
        return parts

    def _check_directory(self, status: os.stat_result) -> None:
        """Refuse a directory that others may write, unless it belongs to root and has the sticky bit."""
        sticky = status.st_uid == 0 and status.st_mode & stat.S_ISVTX and not self._roots
        if status.st_mode & OTHERS_WRITE and not sticky:
            raise self._unsafe(f"users other than its owner may write into {self._named()}")

    def _check_entry(self, name: str, here: os.stat_result, status: os.stat_result) -> None:
        """Refuse an entry of a second user below a directory of a first one other than root."""
        foreign = {uid for uid in (self._foreign, here.st_uid, status.st_uid) if uid}
        if len(foreign) > 1 or (self._foreign and status.st_uid != self._foreign):
            raise self._unsafe(f"{self._named(name)} is in a directory of another user")
        if status.st_uid != 0:
            self._foreign = status.st_uid
        if self._roots and self._foreign is not None:
            raise self._unsafe(f"{self._named(name)} belongs to another user")
        if self._roots and stat.S_ISDIR(status.st_mode) and status.st_mode & OTHERS_WRITE:
            raise self._unsafe(f"users other than its owner may write into {self._named(name)}")

    def _named(self, name: str = "") -> str:
        return "/" + "/".join((*self._passed, *([name] if name else [])))

    def _unsafe(self, why: str) -> UnsafePathError:
        return UnsafePathError(
            f"root does not use {self._path}: {why}",
            hint="Give a directory whose parents are all writable by root only, for example below /usr/local."
            if self._roots
            else "Run the command as the owner of the directory, or choose a --home whose parents are writable by root "
            "or by its owner only, for example /var/lib/mosaic-gateway.",
        )


def _parts(path: Path) -> list[str]:
    return [part for part in os.path.normpath(path).split("/") if part]
