"""Rules on the folder: the journal, file names, and files that the journal lists. Pure; no SQL is parsed."""

from __future__ import annotations

import json
import re
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

from mosaic_gateway.migrations.gate import JOURNAL_NAME
from mosaic_gateway.migrations.lint.finding import LintFinding, Rule

__all__ = ["check_folder"]

NAME = re.compile(r"(\d{4,})_[a-z0-9]+(?:_[a-z0-9]+)*")
RENAME = "Before it is applied, name it NNNN_lower_case_words.sql, with its position in the journal as the number."


@dataclass(frozen=True, slots=True, kw_only=True)
class _Entry:
    """An entry of the journal: its position (from 0) and the line of its tag."""

    place: int
    line: int
    tag: str
    when: int
    idx: object

    @property
    def file(self) -> str:
        return f"{self.tag}.sql"


class _FormatError(ValueError):
    """The file is not a valid journal; the message says where."""


def check_folder(contents: Mapping[str, bytes]) -> Iterator[LintFinding]:
    """Yield findings for the journal in *contents*, and for differences between it and the files."""
    sql = sorted(name for name in contents if name.endswith(".sql"))
    try:
        entries = _read(contents[JOURNAL_NAME])
    except KeyError:
        yield _journal_format("the file is missing")
    except _FormatError as error:
        yield _journal_format(str(error))
    else:
        yield from _check_files(entries, sql)
        yield from _check_tags(entries)
        yield from _check_names(entries)
        yield from _check_order(entries)
        yield from _check_indexes(entries)
    yield from _check_bytes({name: contents[name] for name in sql})


def _journal_format(why: str) -> LintFinding:
    return LintFinding(
        rule=Rule.JOURNAL_FORMAT,
        file=JOURNAL_NAME,
        line=1,
        why=f"the journal cannot be used: {why}",
        instead="Restore it as drizzle-kit or storage new wrote it.",
    )


def _read(content: bytes) -> list[_Entry]:
    try:
        text = content.decode()
        journal = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise _FormatError(f"it is not JSON ({error})") from error
    values = journal.get("entries") if isinstance(journal, dict) else None
    if not isinstance(values, list):
        raise _FormatError("it has no list of entries")
    entries: list[_Entry] = []
    at = 0
    for place, value in enumerate(values):
        tag = value.get("tag") if isinstance(value, dict) else None
        when = value.get("when") if isinstance(value, dict) else None
        if not isinstance(tag, str) or not tag or "/" in tag or "\\" in tag:
            raise _FormatError(f"entry {place} has no usable tag")
        if not isinstance(when, int) or isinstance(when, bool):
            raise _FormatError(f"entry {place} ({tag}) has no usable when")
        at = max(text.find(json.dumps(tag, ensure_ascii=False), at), at)
        line = text.count("\n", 0, at) + 1
        entries.append(_Entry(place=place, line=line, tag=tag, when=when, idx=value.get("idx")))
        at += len(tag)
    return entries


def _at(entry: _Entry, rule: Rule, why: str, instead: str) -> LintFinding:
    return LintFinding(rule=rule, file=JOURNAL_NAME, line=entry.line, why=why, instead=instead, subject=entry.file)


def _check_files(entries: Sequence[_Entry], sql: Sequence[str]) -> Iterator[LintFinding]:
    for entry in entries:
        if entry.file not in sql:
            why = f"{entry.file} is listed here but does not exist"
            yield _at(entry, Rule.JOURNAL_FILE, why, "Restore the file, or remove the entry.")
    named = {entry.file for entry in entries}
    for name in sql:
        if name not in named:
            why = "the journal does not list the file: it never runs"
            instead = "Create migrations with storage new, or remove the file."
            yield LintFinding(rule=Rule.JOURNAL_FILE, file=name, line=1, why=why, instead=instead)


def _check_tags(entries: Sequence[_Entry]) -> Iterator[LintFinding]:
    seen: set[str] = set()
    for entry in entries:
        if entry.tag in seen:
            why = f"a second entry has the tag {entry.tag}: drizzle would run the file twice, mosaic-gateway refuses it"
            yield _at(entry, Rule.DUPLICATE_TAG, why, "Give each migration a file and a tag of its own.")
        seen.add(entry.tag)


def _check_names(entries: Sequence[_Entry]) -> Iterator[LintFinding]:
    for entry in entries:
        match = NAME.fullmatch(entry.tag)
        if match is None:
            why = f"{entry.tag} does not have the form NNNN_words: files are not sorted in the order in which they run"
            yield _at(entry, Rule.FILE_NAME, why, RENAME)
        elif int(match[1]) != entry.place:
            why = f"{entry.tag} is at position {entry.place:04}: files are not sorted in the order in which they run"
            yield _at(entry, Rule.FILE_NAME, why, RENAME)


def _check_order(entries: Sequence[_Entry]) -> Iterator[LintFinding]:
    newest: _Entry | None = None
    for entry in entries:
        if newest is not None and entry.when <= newest.when:
            how = "the same when as" if entry.when == newest.when else "an older when than"
            why = (
                f"{entry.tag} has {how} {newest.tag}: mosaic-gateway decides by the hash and runs it; drizzle skips it "
                f"silently on every database that has {newest.tag}"
            )
            yield _at(entry, Rule.JOURNAL_ORDER, why, "Before it is applied anywhere, set its when above the newest.")
        if newest is None or entry.when > newest.when:
            newest = entry


def _check_indexes(entries: Sequence[_Entry]) -> Iterator[LintFinding]:
    expected = 0
    for entry in entries:
        if entry.idx != expected or isinstance(entry.idx, bool):
            why = f"idx is {entry.idx!r}, not {expected}; drizzle-kit numbers its next migration by the last idx"
            yield _at(entry, Rule.JOURNAL_INDEX, why, "Number the entries from 0 without gaps; no runner reads idx.")
        expected = entry.idx + 1 if isinstance(entry.idx, int) else expected + 1


def _check_bytes(sql: Mapping[str, bytes]) -> Iterator[LintFinding]:
    by_content: dict[bytes, list[str]] = defaultdict(list)
    for name, content in sql.items():
        by_content[content].append(name)
    for names in by_content.values():
        for first, second in pairwise(names):
            why = f"the same bytes as {first}, so the same hash: some tools cannot distinguish the two"
            instead = "Add a comment that states its purpose."
            yield LintFinding(rule=Rule.SAME_BYTES, file=second, line=1, why=why, instead=instead)
