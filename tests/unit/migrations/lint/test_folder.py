"""Tests of the rules on the journal, file names and files."""

from __future__ import annotations

import json
from typing import Any

import pytest

from mosaic_gateway.migrations.gate import JOURNAL_NAME, LOCK_NAME
from mosaic_gateway.migrations.lint.engine import lint_bundle_files
from mosaic_gateway.migrations.lint.finding import Profile

FILES = {"0000_a.sql": b"SELECT 1;", "0001_b.sql": b"SELECT 2;", "0002_c.sql": b"SELECT 3;"}
#: The lines of the three tags in the journal.
A, B, C = 9, 16, 23


def entry(index: object, tag: str, when: int, **changes: Any) -> dict[str, Any]:
    """Return an entry as drizzle-kit writes it."""
    return {"idx": index, "version": "7", "when": when, "tag": tag, "breakpoints": True, **changes}


THREE = [entry(0, "0000_a", 10), entry(1, "0001_b", 20), entry(2, "0002_c", 30)]


def found_in(entries: object, files: dict[str, bytes] | None = None) -> list[tuple[str, str, int]]:
    """Return (rule, file, line) of each finding in a bundle with these entries."""
    journal = json.dumps({"version": "7", "dialect": "postgresql", "entries": entries}, indent=2).encode()
    contents = {**(FILES if files is None else files), JOURNAL_NAME: journal}
    findings = lint_bundle_files(contents, profile=Profile.RELEASE)
    return [(str(finding.rule), finding.file, finding.line) for finding in findings]


def test_valid_folder() -> None:
    """A folder written by drizzle-kit, with its snapshots, has no findings."""
    assert found_in(THREE) == []
    assert found_in(THREE, {**FILES, "meta/0000_snapshot.json": b"{}"}) == []


@pytest.mark.parametrize(
    ("entries", "expected"),
    [
        ([THREE[0], entry(1, "0001_b", 9), THREE[2]], [("journal-order", B)]),
        ([THREE[0], entry(1, "0001_b", 10), THREE[2]], [("journal-order", B)]),
        ([entry(0, "0000_a", 90), *THREE[1:]], [("journal-order", B), ("journal-order", C)]),
        ([THREE[0], entry(2, "0001_b", 20), entry(3, "0002_c", 30)], [("journal-index", B)]),
        ([entry(1, "0000_a", 10), *THREE[1:]], [("journal-index", A), ("journal-index", B)]),
        ([THREE[0], entry("1", "0001_b", 20), THREE[2]], [("journal-index", B)]),
        ([{"tag": "0000_a", "when": 10}, *THREE[1:]], [("journal-index", 6)]),
        ([*THREE, entry(3, "0003_d", 40)], [("journal-file", 30)]),
        ([THREE[1], THREE[0], THREE[2]], [
            ("journal-index", A), ("file-name", B), ("journal-index", B), ("journal-order", B), ("journal-index", C),
        ]),
    ],
)  # fmt: skip
def test_invalid_journal_entries(entries: list[dict[str, Any]], expected: list[tuple[str, int]]) -> None:
    """Each fault of the journal is reported on the line of its entry."""
    assert found_in(entries) == [(rule, JOURNAL_NAME, line) for rule, line in expected]


def test_duplicate_tag() -> None:
    """A duplicate tag is reported on its second occurrence."""
    found = found_in([*THREE, entry(3, "0001_b", 40)])
    assert ("duplicate-tag", JOURNAL_NAME, 30) in found
    assert ("duplicate-tag", JOURNAL_NAME, B) not in found


@pytest.mark.parametrize("tag", ["0002_C", "2_c", "0002", "0002-c", "0002_c_", "0002__c", "c", "0002_c d", "0002_ü"])
def test_file_names(tag: str) -> None:
    """A name that is not of the form NNNN_words is reported."""
    files = {**{name: FILES[name] for name in ("0000_a.sql", "0001_b.sql")}, f"{tag}.sql": b"SELECT 3;"}
    assert found_in([*THREE[:2], entry(2, tag, 30)], files)[0][0] == "file-name"


def test_one_gap_is_reported_once() -> None:
    """After a gap in numbers and idx, the files that follow each other have no finding."""
    entries = [THREE[0], *(entry(index, f"{index:04}_x", index * 10) for index in range(5, 9))]
    files = {f"{one['tag']}.sql": f"SELECT {one['idx']};".encode() for one in entries}
    assert found_in(entries, files) == [("journal-index", JOURNAL_NAME, B)]


@pytest.mark.parametrize(
    "tags",
    [
        ["20250102030405_a", "20250103030405_b", "20250103030406_c"],
        ["1735700645_a", "1735787045_b", "1735787046_c"],
        ["0000_a", "1735787045_b", "20250103030406_c"],
    ],
)
def test_prefixes_of_drizzle_kit(tags: list[str]) -> None:
    """drizzle-kit's prefixes timestamp and unix have no finding, also after files with another prefix."""
    entries = [entry(index, tag, 10 + index) for index, tag in enumerate(tags)]
    assert found_in(entries, {f"{tag}.sql": f"SELECT {tag!r};".encode() for tag in tags}) == []


def test_files_without_entry() -> None:
    """A SQL file that the journal does not list is reported, and its content, which never runs, is not checked."""
    assert found_in(THREE[:2], {**FILES, "0002_c.sql": b"BEGIN; DROP"}) == [("unlisted-file", "0002_c.sql", 1)]
    reason = b"-- lint: allow unlisted-file an example for operators\n-- lint: allow drop-table unused, never runs\n"
    assert found_in(THREE[:2], {**FILES, "0002_c.sql": reason}) == []


def test_files_in_other_folders() -> None:
    """drizzle-orm reads no SQL in other folders, so it is not checked; in a locked bundle it is refused."""
    files = {**FILES, "manual/once.sql": b"BEGIN; DROP TABLE x;"}
    assert found_in(THREE, files) == []
    assert found_in(THREE, {**files, LOCK_NAME: b"{}"}) == [("unlisted-file", "manual/once.sql", 1)]


@pytest.mark.parametrize("time", ["20261301000000", "20260230000000", "20260101240000", "99991232000000"])
def test_a_time_that_does_not_exist(time: str) -> None:
    """A folder of drizzle-kit 1.0 whose time is carried over is found in the release profile; it runs nevertheless."""
    files = {f"{name}_a/migration.sql": b"SELECT 1;" for name in (time, "20260101000000")}
    findings = lint_bundle_files(files, profile=Profile.RELEASE)
    assert [(finding.rule, finding.file) for finding in findings if finding.rule != "same-bytes"] == [
        ("file-name", f"{time}_a/migration.sql")
    ]
    assert lint_bundle_files(files) == ()


def test_layout_without_a_journal() -> None:
    """The folders of drizzle-kit 1.0 are checked in the order of their names; beside a journal they are an error."""
    layout = {"20260101000000_a/migration.sql": b"ROLLBACK;", "20260101000000_a/snapshot.json": b"{}"}
    assert [(finding.rule, finding.file) for finding in lint_bundle_files({**layout, "seed/x.sql": b"ROLLBACK;"})] == [
        ("transaction-control", "20260101000000_a/migration.sql")
    ]
    assert found_in(THREE, {**FILES, **layout}) == [("journal-format", JOURNAL_NAME, 1)]


def test_journal_without_entries() -> None:
    """A journal without entries is an error: nothing would run."""
    assert ("journal-format", JOURNAL_NAME, 1) in found_in([])


def test_same_bytes() -> None:
    """Among files with the same bytes, each one except the first is reported."""
    assert found_in(THREE, dict.fromkeys(FILES, b"SELECT 1;")) == [
        ("same-bytes", "0001_b.sql", 1), ("same-bytes", "0002_c.sql", 1)
    ]  # fmt: skip


@pytest.mark.parametrize(
    "journal",
    [
        None, b"", b"{", b"[]", b"\xff", b"{}", b'{"entries": {}}', b'{"entries": [1]}', b'{"entries": [{"when": 1}]}',
        b'{"entries": [{"tag": "a"}]}', b'{"entries": [{"tag": "../a", "when": 1}]}',
        b'{"entries": [{"tag": "a", "when": true}]}', b"[" * 100_000,
    ],
)  # fmt: skip
def test_missing_or_unreadable_journal(journal: bytes | None) -> None:
    """A missing or unreadable journal is one finding; the SQL is checked nevertheless."""
    contents = {"0000_a.sql": b"DROP TABLE t;", **({} if journal is None else {JOURNAL_NAME: journal})}
    findings = lint_bundle_files(contents, profile=Profile.RELEASE)
    found = [(str(finding.rule), finding.file) for finding in findings]
    assert found == [("drop-table", "0000_a.sql"), ("journal-format", JOURNAL_NAME)]


def test_message_for_a_reversed_when() -> None:
    """The finding says what mosaic-gateway and what drizzle would do."""
    journal = json.dumps({"entries": [entry(0, "0000_a", 10), entry(1, "0001_b", 9)]}).encode()
    files = {name: FILES[name] for name in ("0000_a.sql", "0001_b.sql")}
    (finding,) = lint_bundle_files({**files, JOURNAL_NAME: journal})
    assert "drizzle skips it" in finding.why
    assert "mosaic-gateway decides by the hash" in finding.why
    assert finding.to_dict() == {
        "file": JOURNAL_NAME, "line": 1, "rule": "journal-order", "severity": "warning",
        "why": finding.why, "instead": finding.instead,
    }  # fmt: skip
