"""Replaces a home's data, secrets and settings by staged ones, safely against SIGKILL at any point.

Theory of operation. All parts are renamed within the home, in the directory ``.restoring``: ``new`` has the staged
parts, ``old`` the previous ones, and ``state.json`` records which parts existed before. That file is written before the
first rename. While it exists, the old parts are valid, and `put_back` restores them from any intermediate state.
`commit` erases the whole directory; from its rename on the new parts are valid.
"""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from pathlib import Path

from mosaic_gateway import fs
from mosaic_gateway.fs.record_fields import Field, choice, entries, read_record
from mosaic_gateway.installation import Home

__all__ = ["PARTS", "SWAP", "clean_up", "commit", "exchange", "interrupted", "put_back", "staging"]

SWAP = ".restoring"
STATE = "state.json"
#: The parts that are exchanged, in this order. The data is last: without it the gateway cannot start.
PARTS = ("secrets", "config.toml", "receipt.json", "data")
FIELDS = {name: Field(entries(choice(*PARTS), most=len(PARTS))) for name in ("parts", "present")}
HINT = "Nothing was changed. The file records which parts of the home a killed restore has set aside in its directory."


def staging(home: Home) -> Path:
    """Return the directory in which the new parts are staged."""
    return home.path / SWAP / "new"


def interrupted(home: Home) -> bool:
    """Return whether an exchange was started in *home* and neither committed nor put back."""
    return not (home.path / SWAP).is_symlink() and os.path.lexists(home.path / SWAP / STATE)


def exchange(home: Home, parts: Sequence[str]) -> None:
    """Set the present *parts* aside, and move the staged ones into their place.

    A part that is not staged is absent afterwards. No process may use the data meanwhile. Raises OSError.
    """
    swap = home.path / SWAP
    fs.make_directory(swap / "old")
    present = [part for part in parts if (home.path / part).exists()]
    fs.write_file(swap / STATE, json.dumps({"parts": list(parts), "present": present}))
    for part in parts:
        if part in present:
            (home.path / part).rename(swap / "old" / part)
        if (swap / "new" / part).exists():
            (swap / "new" / part).rename(home.path / part)
    for directory in (swap / "old", swap / "new", home.path):
        fs.sync_directory(directory)


def put_back(home: Home) -> None:
    """Restore the parts that an uncommitted exchange had set aside. Raises RecordError, OSError.

    No process may use the data meanwhile. Can be repeated after a kill.
    """
    swap = home.path / SWAP
    if interrupted(home):
        state = read_record(swap / STATE, FIELDS, hint=HINT)
        fs.make_directory(swap / "new")
        for part in state["parts"]:
            aside, present = swap / "old" / part, home.path / part
            is_new = aside.exists() or (part not in state["present"] and present.exists())
            if is_new and present.exists():
                fs.erase([swap / "new" / part])
                present.rename(swap / "new" / part)
            if aside.exists():
                aside.rename(present)
        fs.sync_directory(home.path)
        (swap / STATE).unlink()
    fs.erase([swap])


def commit(home: Home) -> None:
    """Make the exchange final, and delete the previous parts. Raises OSError."""
    fs.erase([home.path / SWAP])


def clean_up(home: Home) -> None:
    """Remove what an interrupted command has staged, except for an unfinished exchange. Raises OSError."""
    if not interrupted(home):
        fs.erase([home.path / SWAP])
