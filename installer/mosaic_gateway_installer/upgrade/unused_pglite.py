"""PGlite programs in a home that no remaining program copy of the gateway needs."""

from __future__ import annotations

import re
from contextlib import suppress

from mosaic_gateway.engines import pglite
from mosaic_gateway.fs.record_fields import Field, RecordError, matching, read_record
from mosaic_gateway.installation import Home
from mosaic_gateway_installer.program_copy.store import program_copies

__all__ = ["unused_pglite"]

#: The file in a program copy that names its PGlite version (`engines.pglite.npm_packages`).
FILES = "mosaic_gateway/engines/pglite/files.json"
FIELDS = {"pglite": Field(matching(re.compile(r"\d+[\w.+-]*", re.ASCII), "a version"))}


def unused_pglite(home: Home) -> tuple[str, ...]:
    """Return the names of the PGlite programs that no program copy in *home* needs any more. Raises OSError."""
    needed = {pglite.shipped().pglite}
    for program in program_copies(home):
        with suppress(OSError, RecordError):  # versions before PGlite support have no such file
            needed.add(read_record(program / FILES, FIELDS)["pglite"])
    return pglite.unused_programs(home, needed, shipped=pglite.shipped())
