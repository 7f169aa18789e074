"""Which of PGlite's programs a home still needs after an upgrade: those that a kept gateway program names."""

from __future__ import annotations

import re
from contextlib import suppress

from mosaic_gateway.engines.pglite.pinned_versions import shipped
from mosaic_gateway.engines.pglite.runtime import unused_programs
from mosaic_gateway.fs.record_fields import Field, RecordError, matching, read_record
from mosaic_gateway.installation.layout import Home
from mosaic_gateway_installer.program_copy.store import snapshots

__all__ = ["unused_pglite"]

#: Where a snapshot says which PGlite it runs (`engines.pglite.shipped`).
FILES = "mosaic_gateway/engines/pglite/files.json"
FIELDS = {"pglite": Field(matching(re.compile(r"\d+[\w.+-]*", re.ASCII), "a version"))}


def unused_pglite(home: Home) -> tuple[str, ...]:
    """Return the names of what no program of *home* needs any more. Raises OSError."""
    needed = {shipped().pglite}
    for snapshot in snapshots(home):
        with suppress(OSError, RecordError):  # of a version that knew no PGlite
            needed.add(read_record(snapshot / FILES, FIELDS)["pglite"])
    return unused_programs(home, needed, shipped=shipped())
