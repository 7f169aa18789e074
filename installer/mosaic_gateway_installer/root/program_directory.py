"""Names and modes of the program copies in a directory of programs."""

from __future__ import annotations

import os
import re
from contextlib import suppress
from pathlib import Path

from mosaic_gateway import fs
from mosaic_gateway.installation import Home

__all__ = ["OWN_NAMES", "open_to_all", "program_names"]

#: Names that this package creates in a directory of programs.
OWN_NAMES = re.compile(r"postgresql-[\w.]+|gateway-[\w.+!]+|pglite-[\w.-]+|node-[\w.]+|node\.json|current")


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
