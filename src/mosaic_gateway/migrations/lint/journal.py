"""Rules on the folder: the journal, file names, and files that the journal lists. Pure; no SQL is parsed."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from itertools import pairwise

from mosaic_gateway.migrations.bundle import read_entries
from mosaic_gateway.migrations.folder_layout import names_real_time
from mosaic_gateway.migrations.gate import FOLDER_FILE, JOURNAL_NAME
from mosaic_gateway.migrations.lint.finding import LintFinding, Rule
from mosaic_gateway.migrations.lint.folder_files import (
    Entry,
    FormatError,
    read_journal,
    running_files,
    unlisted_files,
)
from mosaic_gateway.migrations.parse import JournalFormatError

__all__ = ["check_folder"]

#: A position, a time stamp (YYYYMMDDhhmmss), or seconds since the epoch: drizzle-kit's prefixes index, timestamp, unix.
NAME = re.compile(r"(\d{4,})_[a-z0-9]+(?:_[a-z0-9]+)*")
UNLISTED = "the journal does not list the file: it never runs"
RENAME = "Before it is applied, name it NNNN_lower_case_words.sql, with a number above those of the files before it."
RENAME_FOLDER = "Before it is applied, name the folder by a time, YYYYMMDDhhmmss_words."


def check_folder(contents: Mapping[str, bytes]) -> Iterator[LintFinding]:
    """Yield findings for the journal in *contents*, and for differences between it and the files."""
    if JOURNAL_NAME in contents:
        yield from _check_journal(contents)
    else:
        yield from _check_layout(contents)
    for name in unlisted_files(contents):
        instead = "Create migrations with storage new or drizzle-kit, or remove the file."
        yield LintFinding(rule=Rule.UNLISTED_FILE, file=name, line=1, why=UNLISTED, instead=instead)
    yield from _check_bytes({name: contents[name] for name in running_files(contents)})


def _check_layout(contents: Mapping[str, bytes]) -> Iterator[LintFinding]:
    try:
        entries = read_entries(contents)
    except JournalFormatError as error:
        yield _journal_format(f"the file is missing, and in drizzle-kit 1.0's layout {error}")
    else:
        if not entries:
            yield _journal_format("the file is missing")
        for entry in entries:
            if not names_real_time(entry.tag):
                why = f"{entry.tag} begins with a time that does not exist; it is carried over, as a 13th month is"
                yield LintFinding(rule=Rule.FILE_NAME, file=entry.file, line=1, why=why, instead=RENAME_FOLDER)


def _check_journal(contents: Mapping[str, bytes]) -> Iterator[LintFinding]:
    folder = next(filter(FOLDER_FILE.fullmatch, sorted(contents)), None)
    if folder is not None:
        yield _journal_format(f"{folder} is of drizzle-kit 1.0's layout, which has no journal")
    try:
        entries = read_journal(contents[JOURNAL_NAME])
    except FormatError as error:
        yield _journal_format(str(error))
        return
    for entry in entries:
        if entry.file not in contents:
            why = f"{entry.file} is listed here but does not exist"
            yield _at(entry, Rule.JOURNAL_FILE, why, "Restore the file, or remove the entry.")
    yield from _check_tags(entries)
    yield from _check_names(entries)
    yield from _check_order(entries)
    yield from _check_indexes(entries)


def _journal_format(why: str) -> LintFinding:
    return LintFinding(
        rule=Rule.JOURNAL_FORMAT,
        file=JOURNAL_NAME,
        line=1,
        why=f"the journal cannot be used: {why}",
        instead="Restore it as drizzle-kit or storage new wrote it.",
    )


def _at(entry: Entry, rule: Rule, why: str, instead: str) -> LintFinding:
    return LintFinding(rule=rule, file=JOURNAL_NAME, line=entry.line, why=why, instead=instead, subject=entry.file)


def _check_tags(entries: Sequence[Entry]) -> Iterator[LintFinding]:
    seen: set[str] = set()
    for entry in entries:
        if entry.tag in seen:
            why = f"a second entry has the tag {entry.tag}: drizzle would run the file twice, mosaic-gateway refuses it"
            yield _at(entry, Rule.DUPLICATE_TAG, why, "Give each migration a file and a tag of its own.")
        seen.add(entry.tag)


def _check_names(entries: Sequence[Entry]) -> Iterator[LintFinding]:
    before: tuple[str, int] | None = None
    for entry in entries:
        match = NAME.fullmatch(entry.tag)
        if match is None:
            why = f"{entry.tag} does not have the form NNNN_words or TIMESTAMP_words of drizzle-kit's file names"
            yield _at(entry, Rule.FILE_NAME, why, RENAME)
            continue
        if before is not None and int(match[1]) <= before[1]:
            why = f"{entry.tag} runs after {before[0]}: files are not sorted in the order in which they run"
            yield _at(entry, Rule.FILE_NAME, why, RENAME)
        before = entry.tag, int(match[1])


def _check_order(entries: Sequence[Entry]) -> Iterator[LintFinding]:
    newest: Entry | None = None
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


def _check_indexes(entries: Sequence[Entry]) -> Iterator[LintFinding]:
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
