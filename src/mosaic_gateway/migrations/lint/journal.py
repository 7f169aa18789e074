"""Rules on the folder: the journal, the names, and the files that it names. Pure; no SQL is read."""

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
RENAME = "Name it NNNN_words_in_small_letters.sql, with the number of its place in the journal, before it is applied."


@dataclass(frozen=True, slots=True, kw_only=True)
class _Entry:
    """An entry of the journal: its place (from 0) and the line on which its tag stands."""

    place: int
    line: int
    tag: str
    when: int
    idx: object

    @property
    def file(self) -> str:
        return f"{self.tag}.sql"


class _FormatError(ValueError):
    """The journal is not one; the message says where."""


def check_folder(contents: Mapping[str, bytes]) -> Iterator[LintFinding]:
    """Yield what is wrong with the journal of *contents*, and between it and the files."""
    sql = sorted(name for name in contents if name.endswith(".sql"))
    try:
        entries = _read(contents[JOURNAL_NAME])
    except KeyError:
        yield _journal_format("it is not there")
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
            why = f"{entry.file} is named here and is not there"
            yield _at(entry, Rule.JOURNAL_FILE, why, "Restore the file, or remove the entry.")
    named = {entry.file for entry in entries}
    for name in sql:
        if name not in named:
            why = "the journal does not name the file: it never runs"
            instead = "Make migrations with storage new, or remove the file."
            yield LintFinding(rule=Rule.JOURNAL_FILE, file=name, line=1, why=why, instead=instead)


def _check_tags(entries: Sequence[_Entry]) -> Iterator[LintFinding]:
    seen: set[str] = set()
    for entry in entries:
        if entry.tag in seen:
            why = f"a second entry has the tag {entry.tag}: drizzle would run the file twice, our runner refuses"
            yield _at(entry, Rule.DUPLICATE_TAG, why, "Give each migration a file and a tag of its own.")
        seen.add(entry.tag)


def _check_names(entries: Sequence[_Entry]) -> Iterator[LintFinding]:
    for entry in entries:
        match = NAME.fullmatch(entry.tag)
        if match is None:
            why = f"{entry.tag} is not a number and words: files sort otherwise than they run"
            yield _at(entry, Rule.FILE_NAME, why, RENAME)
        elif int(match[1]) != entry.place:
            why = f"{entry.tag} is at place {entry.place:04}: files sort otherwise than they run"
            yield _at(entry, Rule.FILE_NAME, why, RENAME)


def _check_order(entries: Sequence[_Entry]) -> Iterator[LintFinding]:
    newest: _Entry | None = None
    for entry in entries:
        if newest is not None and entry.when <= newest.when:
            how = "the same when as" if entry.when == newest.when else "an older when than"
            why = (
                f"{entry.tag} has {how} {newest.tag}: our runner goes by the hash and runs it; drizzle skips it "
                f"for ever, and silently, on a database that has {newest.tag}"
            )
            yield _at(entry, Rule.JOURNAL_ORDER, why, "Before it is applied anywhere, give it a when above the newest.")
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
    alike: dict[bytes, list[str]] = defaultdict(list)
    for name, content in sql.items():
        alike[content].append(name)
    for names in alike.values():
        for first, second in pairwise(names):
            why = f"the same bytes as {first}, so the same hash: some tools take one for the other"
            instead = "Add a comment that says what it is for."
            yield LintFinding(rule=Rule.SAME_BYTES, file=second, line=1, why=why, instead=instead)
