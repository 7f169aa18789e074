"""Commands in the hints of a storage verb use the same migrations and the same database."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from mosaic_gateway.cli.storage.target import target_words
from mosaic_gateway.migrations.bundle import LedgerName

HOME = Path("/srv/gw")
FOLDER = Path("/a folder")
NONE: dict[str, Any] = {"folder": None, "ledger": None, "database_url": None, "database_url_file": None}


@pytest.mark.parametrize(
    ("home", "options", "words"),
    [
        (None, {}, ()),
        (HOME, {}, ("--home", "/srv/gw")),
        (None, {"folder": FOLDER}, ("--from", "/a folder")),
        (HOME, {"folder": FOLDER}, ("--from", "/a folder", "--home", "/srv/gw")),
        (None, {"folder": FOLDER, "ledger": LedgerName("s", "t")}, ("--from", "/a folder", "--ledger", "s.t")),
        (HOME, {"database_url": "postgresql://u:secret@h/d"}, ("--database-url", "…")),
        (HOME, {"database_url_file": Path("/url")}, ("--database-url-file", "/url")),
        (None, {"folder": FOLDER, "database_url": "x"}, ("--from", "/a folder", "--database-url", "…")),
    ],
)
def test_options_that_name_the_target(home: Path | None, options: dict[str, Any], words: tuple[str, ...]) -> None:
    """They name folder and database; the home only if no other database is named; and never the URL."""
    assert target_words(home, {**NONE, **options}) == words
