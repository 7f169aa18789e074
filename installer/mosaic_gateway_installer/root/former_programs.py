"""Program copies in a home that are owned by root: version 0.1.0, run by root, put them there.

They are accessed by directory descriptors, no link is followed, and nothing in them is executed. An account cannot move
a directory that root owns into one of its own, so a directory here that root owns was put there by root.
"""

from __future__ import annotations

import os
import shutil
import stat
from collections.abc import Collection, Iterator
from contextlib import contextmanager, suppress

from mosaic_gateway.process import FoundPath, open_directory

__all__ = ["remove_roots_programs", "roots_programs"]

DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


def roots_programs(home: FoundPath) -> list[str]:
    """Return the names of the program copies in *home* that root owns."""
    with suppress(OSError), _programs_in(home) as directory:
        return [name for name in os.listdir(directory) if _is_roots(directory, name)]  # noqa: PTH208 - of a descriptor
    return []


def remove_roots_programs(home: FoundPath, names: Collection[str]) -> None:
    """Remove the program copies of *names* in *home* that root owns. Raises OSError."""
    with suppress(FileNotFoundError), _programs_in(home) as directory:
        for name in roots_programs(home):
            if name in names:
                shutil.rmtree(name, dir_fd=directory)


@contextmanager
def _programs_in(home: FoundPath) -> Iterator[int]:
    if not home.is_directory:
        raise FileNotFoundError(home.path)
    outer = open_directory(home)
    try:
        inner = os.open("runtime", DIRECTORY, dir_fd=outer)
    finally:
        os.close(outer)
    try:
        yield inner
    finally:
        os.close(inner)


def _is_roots(directory: int, name: str) -> bool:
    status = os.stat(name, dir_fd=directory, follow_symlinks=False)
    return stat.S_ISDIR(status.st_mode) and status.st_uid == 0 and name.startswith(("gateway-", ".gateway-"))
