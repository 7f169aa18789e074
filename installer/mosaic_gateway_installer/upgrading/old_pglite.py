"""Which of PGlite's programs a home still needs after an upgrade: those that a kept gateway program names."""

from __future__ import annotations

import json
from contextlib import suppress

from mosaic_gateway.config import Home
from mosaic_gateway.engines.pglite.runtime import remove_unused
from mosaic_gateway.engines.pglite.shipped import shipped
from mosaic_gateway.process.account import Account, assume
from mosaic_gateway_installer.snapshot.store import snapshots

__all__ = ["remove_old_pglite"]

#: Where a snapshot says which PGlite it runs (`engines.pglite.shipped`).
FILES = "mosaic_gateway/engines/pglite/files.json"


def remove_old_pglite(home: Home, account: Account | None) -> tuple[str, ...]:
    """Remove what no program in *home* of *account* needs any more; return the names. Raises OSError."""
    needed = {shipped().pglite}
    for snapshot in snapshots(home):
        with suppress(OSError, ValueError, KeyError, TypeError):  # of a version that knew no PGlite
            needed.add(str(json.loads((snapshot / FILES).read_bytes())["pglite"]))
    with assume(account):
        return remove_unused(home, needed, shipped=shipped())
