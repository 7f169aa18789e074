"""The command that calls this program as the person called it, for hints that can be pasted."""

from __future__ import annotations

import os
import shlex
import shutil

from mosaic_gateway.hint import PROGRAM

__all__ = ["typed_program"]


def typed_program(started_as: str, search_path: str | None) -> str:
    """Return the shell word that starts the program that was started as *started_as* (``argv[0]``).

    It is the bare name if the shell finds this very file by its name in *search_path* (``PATH``), else the absolute
    path. What has another name, such as ``python -m``, is called by the bare name too.
    """
    if os.path.basename(started_as) != PROGRAM:  # noqa: PTH119 - every process comes here: no Path
        return PROGRAM
    found = shutil.which(PROGRAM, path=search_path)
    file = found if "/" not in started_as else os.path.abspath(started_as)  # noqa: PTH100 - as above
    if file is None or (found is not None and os.path.realpath(found) == os.path.realpath(file)):
        return PROGRAM
    return shlex.quote(file)
