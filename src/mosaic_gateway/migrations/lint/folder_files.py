"""The files of a folder that run, in their order: those that the journal lists, or in the 1.0 layout all folders."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass

from mosaic_gateway.migrations.gate import JOURNAL_NAME

__all__ = ["Entry", "FormatError", "folder_migrations", "read_journal", "running_files", "top_level_sql"]

#: drizzle-kit 1.0: a folder for each migration, sorted by its name, without a journal.
FOLDER = re.compile(r"\d{14}_[^/]+/migration\.sql")


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """An entry of the journal: its position (from 0), the line of its tag, its ``when``, and ``idx`` as it is."""

    place: int
    line: int
    tag: str
    when: int
    idx: object

    @property
    def file(self) -> str:
        """The name of the migration's file."""
        return f"{self.tag}.sql"


class FormatError(ValueError):
    """The file is not a usable journal; the message says where."""


def running_files(contents: Mapping[str, bytes]) -> tuple[str, ...]:
    """Return the names of the SQL files that run, in their order; without a usable journal all at the top level."""
    if JOURNAL_NAME not in contents and (folders := folder_migrations(contents)):
        return folders
    try:
        entries = read_journal(contents[JOURNAL_NAME])
    except (KeyError, FormatError):
        return top_level_sql(contents)
    return tuple(dict.fromkeys(entry.file for entry in entries if entry.file in contents))


def top_level_sql(contents: Mapping[str, bytes]) -> tuple[str, ...]:
    """Return the names of the SQL files beside ``meta``, sorted; drizzle-orm reads none in other folders."""
    return tuple(sorted(name for name in contents if name.endswith(".sql") and "/" not in name))


def folder_migrations(contents: Mapping[str, bytes]) -> tuple[str, ...]:
    """Return the names of the SQL files of drizzle-kit 1.0's layout, sorted."""
    return tuple(sorted(name for name in contents if FOLDER.fullmatch(name)))


def read_journal(content: bytes) -> list[Entry]:
    """Return the entries of a journal. Raises `FormatError`, also for a journal without entries."""
    try:
        text = content.decode()
        journal = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise FormatError(f"it is not JSON ({error})") from error
    values = journal.get("entries") if isinstance(journal, dict) else None
    if not isinstance(values, list):
        raise FormatError("it has no list of entries")
    if not values:
        raise FormatError("it has no entries, so nothing would run")
    entries: list[Entry] = []
    at = 0
    for place, value in enumerate(values):
        tag = value.get("tag") if isinstance(value, dict) else None
        when = value.get("when") if isinstance(value, dict) else None
        if not isinstance(tag, str) or not tag or "/" in tag or "\\" in tag:
            raise FormatError(f"entry {place} has no usable tag")
        if not isinstance(when, int) or isinstance(when, bool):
            raise FormatError(f"entry {place} ({tag}) has no usable when")
        at = max(text.find(json.dumps(tag, ensure_ascii=False), at), at)
        line = text.count("\n", 0, at) + 1
        entries.append(Entry(place=place, line=line, tag=tag, when=when, idx=value.get("idx")))
        at += len(tag)
    return entries
