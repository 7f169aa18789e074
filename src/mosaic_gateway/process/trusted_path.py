"""Whose directory is this? Found for root from the path alone, with nothing on the way that another user can exchange.

Theory of operation. The path is opened component by component, each relative to the one before. What belongs to root
and only root can write is trusted; so are links in it, which only root can have made. From the first component on that
belongs to another user, everything must belong to that same user, and there may be no link: that user could
exchange what is there, but only for what is that user's own, as whom the work is then done. In a directory that all
may write, the sticky bit keeps others from renaming an entry (``/tmp``).
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
MODE = 0o755  # of what is made
OTHERS_WRITE = stat.S_IWGRP | stat.S_IWOTH


class UnsafePathError(PreflightError):
    """Root does not act on this path: another user can exchange a directory in it."""

    code = "PATH_UNSAFE"


@dataclass(frozen=True, slots=True, kw_only=True)
class FoundPath:
    """What a path leads to. ``path`` is without links.

    ``parent`` is an open descriptor of the deepest directory above it that is there, and ``missing`` are the names
    below that one which are not (none, where the path is there). ``status`` is that of the path itself.
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
        """The user id of the owner, None where nothing is there."""
        return self.status.st_uid if self.status is not None else None

    @property
    def is_directory(self) -> bool:
        """Whether a directory is there."""
        return self.status is not None and stat.S_ISDIR(self.status.st_mode)


@contextmanager
def find_path(path: Path, *, roots: bool = False) -> Iterator[FoundPath]:
    """Give what the absolute *path* leads to, for the length of the block. Raises `UnsafePathError`, OSError.

    With *roots*, all of it must be root's, and nothing on the way a directory that others may write, sticky or not.
    """
    walk = _Walk(path, roots=roots)
    try:
        yield walk.run()
    finally:
        os.close(walk.directory)


def open_directory(found: FoundPath) -> int:
    """Return a descriptor of the directory that was *found*; what is missing of it is made, as root's own (0755).

    Raises FileExistsError where another process makes it just now, NotADirectoryError, OSError.
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
    """The way from the root directory down."""

    def __init__(self, path: Path, *, roots: bool) -> None:
        self._asked = path
        self._roots = roots
        self._links = 0
        self._foreign: int | None = None  # the one user besides root to whom components belong
        self._passed: list[str] = []
        self.directory = os.open("/", OPEN_DIRECTORY)

    def run(self) -> FoundPath:
        pending = _parts(self._asked)
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
        """Return the components that a link of root's leads over; the walk begins anew if it is absolute."""
        self._links += 1
        ours = here.st_uid == link.st_uid == 0 and not here.st_mode & OTHERS_WRITE
        if not ours or self._links > MOST_LINKS:
            raise self._unsafe(f"{self._named(name)} is a symbolic link")
        target = os.readlink(name, dir_fd=self.directory)
        parts = _parts(Path(target) if target.startswith("/") else Path("/", *self._passed, target))
        os.close(self.directory)
        self.directory = os.open("/", OPEN_DIRECTORY)
        self._passed = []
        return parts

    def _check_directory(self, status: os.stat_result) -> None:
        """A directory that others may write is refused, unless its sticky bit keeps entries in their place."""
        sticky = status.st_uid == 0 and status.st_mode & stat.S_ISVTX and not self._roots
        if status.st_mode & OTHERS_WRITE and not sticky:
            raise self._unsafe(f"others than its owner may write into {self._named()}")

    def _check_entry(self, name: str, here: os.stat_result, status: os.stat_result) -> None:
        """Whatever is another user's than root's must be that one user's all the way down."""
        foreign = {uid for uid in (self._foreign, here.st_uid, status.st_uid) if uid}
        if len(foreign) > 1 or (self._foreign and status.st_uid != self._foreign):
            raise self._unsafe(f"{self._named(name)} lies in a directory of another user")
        if status.st_uid != 0:
            self._foreign = status.st_uid
        if self._roots and self._foreign is not None:
            raise self._unsafe(f"{self._named(name)} belongs to another user")
        if self._roots and stat.S_ISDIR(status.st_mode) and status.st_mode & OTHERS_WRITE:
            raise self._unsafe(f"others than its owner may write into {self._named(name)}")

    def _named(self, name: str = "") -> str:
        return "/" + "/".join((*self._passed, *([name] if name else [])))

    def _unsafe(self, why: str) -> UnsafePathError:
        return UnsafePathError(
            f"root does not work in {self._asked}: {why}",
            hint="Name a directory of which root alone can change the way to it (below /usr/local, say)."
            if self._roots
            else "Run the command as the owner of the directory, or choose a --home of which only root, or only its "
            "owner, can change the way to it (such as /var/lib/mosaic-gateway).",
        )


def _parts(path: Path) -> list[str]:
    return [part for part in os.path.normpath(path).split("/") if part]
