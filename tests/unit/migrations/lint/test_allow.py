"""Tests of ``-- lint: allow``: scope, required reason, and unused comments."""

from __future__ import annotations

import pytest
from tests.unit.migrations.lint.bundles import LintOne

from mosaic_gateway.migrations.gate import JOURNAL_NAME
from mosaic_gateway.migrations.lint.engine import lint_bundle_files

CUT = "--> statement-breakpoint\n"
OLD = b"""{"entries": [{"idx": 0, "tag": "0000_a", "when": 2}, {"idx": 1, "tag": "0001_b", "when": 1}]}"""


@pytest.mark.parametrize(
    "sql",
    [
        "-- lint: allow drop-table it was never used\nDROP TABLE t;",
        "DROP TABLE t; -- lint: allow drop-table it was never used",
        "--lint:allow drop-table: it was never used\r\n".replace(": it", " it").replace("\r", "") + "DROP TABLE t;",
        "-- lint: allow drop-table, rename it was never used\nDROP TABLE t;\nALTER TABLE u RENAME TO v;",
        "/* a head */ -- lint: allow drop-table unused\n" + f"SELECT 1;\n{CUT}DROP TABLE t;",
        f"SELECT 1;{CUT}-- lint: allow drop-table unused\nDROP TABLE t;",
        f"SELECT 1;{CUT}DROP TABLE\n-- lint: allow drop-table unused\nt;{CUT}SELECT 2;",
    ],
)
def test_allowed(lint_one: LintOne, sql: str) -> None:
    """A comment with a reason at the start of the file or in the chunk allows a finding."""
    assert lint_one(sql) == []


@pytest.mark.parametrize(
    ("sql", "expected"),
    [
        (f"DROP TABLE t;{CUT}-- lint: allow drop-table unused\nSELECT 1;", [("drop-table", 1), ("unused-allow", 2)]),
        (f"SELECT 1;{CUT}-- lint: allow drop-table unused\nDROP TABLE t;{CUT}DROP TABLE u;", [("drop-table", 4)]),
        (f"DROP TABLE t; -- lint: allow drop-table unused\n{CUT}DROP TABLE u;", [("drop-table", 3)]),
        ("-- lint: allow rename other\nDROP TABLE t;", [("unused-allow", 1), ("drop-table", 2)]),
        ("-- lint: allow rename, drop-table other\nDROP TABLE t;", [("unused-allow", 1)]),
        ("SELECT '-- lint: allow drop-table x';\nDROP TABLE t;", [("drop-table", 2)]),
        ("/*\n-- lint: allow drop-table x\n*/ DROP TABLE t;", [("drop-table", 3)]),
        ("-- as -- lint: allow drop-table x\nDROP TABLE t;", [("drop-table", 2)]),
        ("DO $$ BEGIN NULL; -- lint: allow drop-table x\nEND $$; DROP TABLE t;", [("drop-table", 2)]),
    ],
)
def test_scope(lint_one: LintOne, sql: str, expected: list[tuple[str, int]]) -> None:
    """A comment applies only to its scope; other findings and unused comments are reported."""
    assert lint_one(sql) == expected


@pytest.mark.parametrize(
    "comment",
    [
        "-- lint: allow drop-table",
        "-- lint: allow",
        "-- lint: allow no-such-rule because",
        "-- lint: allow drop-table, no-such-rule because",
        "-- lint: allow drop-table, because it must",
        "-- lint: ignore drop-table because",
        "-- lint: allow bad-allow because",
        "-- lint: allow unused-allow because",
        "-- lint:",
    ],
)
def test_without_reason_or_rule(lint_one: LintOne, comment: str) -> None:
    """A comment without a reason or with an unknown rule has no effect and is an error."""
    assert lint_one(f"{comment}\nDROP TABLE t;") == [("bad-allow", 1), ("drop-table", 2)]


def test_journal_finding_allowed_in_the_sql_file() -> None:
    """The journal cannot contain comments: a comment at the start of the SQL file applies to that file's entry."""
    reason = b"-- lint: allow journal-order it was shipped so\n"
    assert lint_bundle_files({"0000_a.sql": b"SELECT 1;", "0001_b.sql": reason + b"SELECT 2;", JOURNAL_NAME: OLD}) == ()
    found = lint_bundle_files({"0000_a.sql": reason + b"SELECT 1;", "0001_b.sql": b"SELECT 2;", JOURNAL_NAME: OLD})
    assert [(finding.rule, finding.file) for finding in found] == [
        ("unused-allow", "0000_a.sql"), ("journal-order", JOURNAL_NAME)
    ]  # fmt: skip
