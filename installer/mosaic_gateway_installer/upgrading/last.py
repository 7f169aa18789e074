"""The last upgrade, as far as somebody may want to go back from it."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path

from mosaic_gateway.config import Home
from mosaic_gateway.files import remove_file, write_file
from mosaic_gateway.process.account import Account, assume
from mosaic_gateway_installer.upgrading.written import Means, Written

__all__ = ["LastUpgrade", "forget_last", "last_file", "read_last", "write_last"]


@dataclass(frozen=True, slots=True, kw_only=True)
class LastUpgrade:
    """An upgrade that is complete: from which version and program, to which, and with which backup.

    ``written`` is of the moment before anybody used the upgraded database, None where it could not be read.
    """

    source_version: str
    source_program: str | None
    source_schema: str | None
    target_version: str
    backup: str | None
    written: Written | None = None


def last_file(home: Home) -> Path:
    """Return where *home* says what its last upgrade was."""
    return home.path / "last-upgrade.json"


def read_last(home: Home) -> LastUpgrade | None:
    """Return the last upgrade of *home*, None where there is none to go back from."""
    try:
        value = json.loads(last_file(home).read_bytes())
        written = value.pop("written")
        if written is not None:
            tables = {str(name): (int(i), int(u), int(d)) for name, (i, u, d) in written["tables"].items()}
            means, at, since = Means(written["means"]), str(written["at"]), str(written["since"])
            written = Written(means=means, at=at, since=since, tables=tables)
        return LastUpgrade(**value, written=written)
    except (OSError, ValueError, KeyError, TypeError):
        return None


def write_last(home: Home, last: LastUpgrade, account: Account | None) -> None:
    """Write *last* as *account*. Raises OSError."""
    with assume(account):
        write_file(last_file(home), json.dumps(asdict(last)) + "\n")


def forget_last(home: Home, account: Account | None) -> None:
    """Say that there is nothing to go back from. Raises OSError."""
    with assume(account):
        remove_file(last_file(home))
