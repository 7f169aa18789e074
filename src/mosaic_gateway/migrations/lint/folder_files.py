"""The files of a folder that run, in their order, and the entries of its journal with their lines."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass

from mosaic_gateway.migrations.bundle import read_entries
from mosaic_gateway.migrations.gate import LOCK_NAME, unnamed_files
from mosaic_gateway.migrations.parse import JournalFormatError

__all__ = ["Entry", "FormatError", "read_journal", "running_files", "unlisted_files"]


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
    """Return the names of the SQL files that run, in their order; all beside the journal if that is unusable."""
    try:
        entries = read_entries(contents)
    except JournalFormatError:
        entries = ()
    names = dict.fromkeys(entry.file for entry in entries if entry.file in contents)
    return tuple(names) or unnamed_files(contents, ())


def unlisted_files(contents: Mapping[str, bytes]) -> tuple[str, ...]:
    """Return the names of the SQL files that never run and should: in a locked bundle all, as it is refused."""
    running = set(running_files(contents))
    if LOCK_NAME in contents:
        return tuple(sorted(name for name in contents if name.endswith(".sql") and name not in running))
    return unnamed_files(contents, running)


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
