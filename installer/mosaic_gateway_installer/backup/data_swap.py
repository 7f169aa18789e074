"""A home's data, secrets and settings exchanged for others, so that no kill can lose either.

Theory of operation. Everything is renamed within the home, below ``.restoring``: ``new`` holds what is to come,
``old`` what was there, ``state.json`` which parts were there before. The file is written before the first
rename and names the direction: as long as it is there, the old parts are the home's, and `put_back` brings them
back from any point in between. `commit` renames the directory as a whole; from then on the new parts are the
home's, and what is left of the old ones is only room to be freed.
"""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from pathlib import Path

from mosaic_gateway.fs.files import make_directory, remove_path, write_file
from mosaic_gateway.fs.record_fields import Field, choice, entries, read_record
from mosaic_gateway.installation.layout import Home
from mosaic_gateway_installer.backup.tree_copy import sync_directory

__all__ = ["PARTS", "SWAP", "clean_up", "commit", "exchange", "interrupted", "put_back", "staging"]

SWAP = ".restoring"
DONE = ".restored.tmp"
STATE = "state.json"
#: What is exchanged, in this order; the data last, because it is what a rash start would miss first.
PARTS = ("secrets", "config.toml", "receipt.json", "data")
FIELDS = {name: Field(entries(choice(*PARTS), most=len(PARTS))) for name in ("parts", "present")}
HINT = (
    "Nothing was changed. It says which of the home's parts a restore that was killed has set aside in the same place."
)


def staging(home: Home) -> Path:
    """Return where the new parts are gathered."""
    return home.path / SWAP / "new"


def interrupted(home: Home) -> bool:
    """Return whether an exchange was begun in *home* and neither committed nor put back."""
    return not (home.path / SWAP).is_symlink() and os.path.lexists(home.path / SWAP / STATE)


def exchange(home: Home, parts: Sequence[str]) -> None:
    """Set the present *parts* aside and put the staged ones in their place; a part that is not staged goes.

    Nobody may use the data meanwhile. Raises OSError.
    """
    swap = home.path / SWAP
    make_directory(swap / "old")
    present = [part for part in parts if (home.path / part).exists()]
    write_file(swap / STATE, json.dumps({"parts": list(parts), "present": present}))
    for part in parts:
        if part in present:
            (home.path / part).rename(swap / "old" / part)
        if (swap / "new" / part).exists():
            (swap / "new" / part).rename(home.path / part)
    for directory in (swap / "old", swap / "new", home.path):
        sync_directory(directory)


def put_back(home: Home) -> None:
    """Bring back what an exchange that was not committed had set aside. Raises RecordError, OSError.

    Nobody may use the data meanwhile. Can be killed and called again.
    """
    swap = home.path / SWAP
    if interrupted(home):
        state = read_record(swap / STATE, FIELDS, hint=HINT)
        make_directory(swap / "new")
        for part in state["parts"]:
            aside, place = swap / "old" / part, home.path / part
            came = aside.exists() or (part not in state["present"] and place.exists())
            if came and place.exists():
                remove_path(swap / "new" / part)
                place.rename(swap / "new" / part)
            if aside.exists():
                aside.rename(place)
        sync_directory(home.path)
        (swap / STATE).unlink()
    remove_path(swap)


def commit(home: Home) -> None:
    """Make the exchange final, and free the room of what was there before. Raises OSError."""
    remove_path(home.path / DONE)
    (home.path / SWAP).rename(home.path / DONE)
    sync_directory(home.path)
    clean_up(home)


def clean_up(home: Home) -> None:
    """Remove what commands that ended too early left, and nobody needs. Raises OSError."""
    remove_path(home.path / DONE)
    if not interrupted(home):
        remove_path(home.path / SWAP)
