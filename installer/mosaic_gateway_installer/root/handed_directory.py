"""A new directory for the account, in a directory that root named and that only root can change."""

from __future__ import annotations

import os
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from mosaic_gateway import __version__, fs
from mosaic_gateway.process import Account, find_path, open_directory

__all__ = ["HandedDirectory"]


@dataclass(frozen=True, slots=True)
class HandedDirectory:
    """A directory in ``place`` that the account fills; it is named ``temporary`` at first, and ``name`` when complete.

    ``directory`` is an open descriptor of ``place``; every operation uses it.
    """

    place: Path
    directory: int
    temporary: str
    name: str

    @classmethod
    def create(cls, place: Path, account: Account) -> HandedDirectory:
        """Create it, and *place* if missing; make *account* its owner. Raises UnsafePathError, OSError."""
        with find_path(place, roots=True) as found:
            directory, path = open_directory(found), found.path
        stamp = f"{datetime.now(UTC):%Y%m%dT%H%M%SZ}-{__version__}"
        existing = set(os.listdir(directory))  # noqa: PTH208 - of a descriptor
        names = (stamp, *(f"{stamp}-{number}" for number in range(2, 1000)))
        name = next(name for name in names if name not in existing)
        created = cls(path, directory, fs.temporary_sibling(path / name).name, name)
        os.mkdir(created.temporary, 0o700, dir_fd=directory)
        inner = os.open(created.temporary, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW, dir_fd=directory)
        try:
            os.fchown(inner, account.uid, account.gid)
        finally:
            os.close(inner)
        return created

    def complete(self) -> None:
        """Rename it to ``name``. Raises OSError."""
        os.rename(self.temporary, self.name, src_dir_fd=self.directory, dst_dir_fd=self.directory)
        os.close(self.directory)

    def discard(self) -> None:
        """Remove it if it is empty."""
        with suppress(OSError):
            os.rmdir(self.temporary, dir_fd=self.directory)
        os.close(self.directory)
