"""Names and modes of the program copies in a directory of programs, and copies in a home that root owns.

Version 0.1.0, run by root, put the latter there. They are accessed by directory descriptors, no link is followed, and
nothing in them is executed. An account cannot move a directory that root owns into one of its own, so a directory in
a home that root owns was put there by root.
"""

from __future__ import annotations

import os
import re
import shutil
import stat
from collections.abc import Collection, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from mosaic_gateway import fs
from mosaic_gateway.installation import Home
from mosaic_gateway.process import FoundPath, open_directory

__all__ = ["OWN_NAMES", "open_to_all", "program_names", "remove_roots_programs", "roots_programs"]

#: Names that this package creates in a directory of programs.
OWN_NAMES = re.compile(r"postgresql-[\w.]+|gateway-[\w.+!]+|pglite-[\w.-]+|node-[\w.]+|node\.json|current")
DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


def program_names(home: Home) -> tuple[str, ...]:
    """Return the names of this package's program copies in *home*, including those set aside."""
    with suppress(FileNotFoundError, NotADirectoryError):
        names = {path.name for path in home.runtime.iterdir() if OWN_NAMES.fullmatch(path.name)}
        return tuple(sorted(names | {one.path.name for one in fs.lying_aside(home.runtime, OWN_NAMES)}))
    return ()


def open_to_all(directory: Path) -> None:
    """Let all users read everything below *directory*, and run what its owner can run. Raises OSError.

    The mode of *directory* itself is set last.
    """
    for root, directories, names in os.walk(directory):
        for name in (*directories, *names):
            path = os.path.join(root, name)  # noqa: PTH118 - os.walk gives texts
            status = os.lstat(path)
            if not os.path.islink(path):  # noqa: PTH114 - as above
                os.chmod(path, 0o755 if status.st_mode & 0o100 else 0o644)  # noqa: PTH101 - as above
    directory.chmod(0o755)


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
