"""Tests of the profiles: what safety leaves out, and what only safety reports."""

from __future__ import annotations

import pytest
from tests.unit.migrations.lint.bundles import bundle_of

from mosaic_gateway.migrations.gate import LOCK_NAME
from mosaic_gateway.migrations.lint.engine import default_profile, lint_bundle_files
from mosaic_gateway.migrations.lint.finding import SEVERITIES, Profile, Rule, Severity

NEXT = "CREATE TABLE later (a int);"


def found(*sql: str, profile: Profile = Profile.SAFETY) -> list[tuple[str, str, int]]:
    """Return (rule, severity, line) of the findings in a folder of files with *sql*."""
    findings = lint_bundle_files(bundle_of(**{f"{i:04}_f": text for i, text in enumerate(sql)}), profile=profile)
    return [(str(finding.rule), str(finding.severity), finding.line) for finding in findings]


def test_default() -> None:
    """A bundle with a hash lock is checked for a release, any other folder for safety."""
    assert default_profile(bundle_of(**{"0000_f": "SELECT 1;"})) is Profile.SAFETY
    locked = {**bundle_of(**{"0000_f": "DROP TABLE t;"}), LOCK_NAME: b"{}"}
    assert default_profile(locked) is Profile.RELEASE
    assert [str(finding.rule) for finding in lint_bundle_files(locked)] == ["drop-table"]
    assert lint_bundle_files(locked, profile=Profile.SAFETY) == ()


def test_every_rule_is_on_somewhere() -> None:
    """The table has each rule, and no rule is off in both profiles."""
    assert set(SEVERITIES) == set(Rule)
    assert all({each.safety, each.release} != {Severity.OFF} for each in SEVERITIES.values())


@pytest.mark.parametrize(
    "sql",
    [
        "DROP TABLE t;", "ALTER TABLE t DROP a;", "ALTER TABLE t RENAME TO u;", "ALTER TABLE t ALTER a TYPE text;",
        "CREATE INDEX ON t (a);", "ALTER TABLE t ADD UNIQUE (a);", "-- Custom SQL migration file\n",
        "SELECT 1;\n--> statement-breakpoint\n", "CREATE INDEX CONCURRENTLY IF NOT EXISTS i ON t (a);",
    ],
)  # fmt: skip
def test_release_only(sql: str) -> None:
    """What runs, and comes out as with drizzle-orm, is reported for a release only."""
    assert found(sql) == []
    assert len(found(sql, profile=Profile.RELEASE)) == 1


@pytest.mark.parametrize(
    ("sql", "expected"),
    [
        ("SELECT 1;\r\n", ("line-endings", "warning", 1)),
        ("ALTER TABLE t ADD b int NOT NULL;", ("not-null", "warning", 1)),
        ("-- lint: allow nothing\nSELECT 1;", ("bad-allow", "warning", 1)),
    ],
)
def test_error_of_a_release_is_a_warning(sql: str, expected: tuple[str, str, int]) -> None:
    """What may fail later, or on a table with rows, is a warning in safety and an error in release."""
    assert found(sql) == [expected]
    assert found(sql, profile=Profile.RELEASE) == [(expected[0], "error", expected[2])]


def test_allowed_finding_of_a_rule_that_is_off() -> None:
    """A comment that allows a finding of the other profile is not unused."""
    assert found("-- lint: allow drop-table unused since 2.0\nDROP TABLE t;") == []


@pytest.mark.parametrize(
    ("sql", "line"),
    [
        ("SELECT set_config('app.admin', 'true', true);\nUPDATE t SET a = 1;", 1),
        ("SELECT 1;\nSELECT pg_catalog.set_config('search_path', 's', true);\nCREATE TABLE t ();", 2),
    ],
)
def test_local_setting(sql: str, line: int) -> None:
    """drizzle-orm's transaction goes on after the file: a setting of the transaction reaches the next file there."""
    assert found(sql, NEXT) == [("local-setting", "warning", line)]
    assert found(sql, NEXT, profile=Profile.RELEASE) == []
    assert found(sql) == []


@pytest.mark.parametrize(
    "sql",
    [
        "SET LOCAL lock_timeout = '1s';\nCREATE TABLE t ();",
        "SELECT set_config('statement_timeout', '0', true);\nSELECT 1;",
        "SELECT set_config('a.b', 'c', true);\nSELECT set_config('a.b', '', true);\nSELECT 1;",
        "SET LOCAL search_path = s;\nCREATE TABLE t ();\nSET LOCAL search_path TO DEFAULT;\nSELECT 1;",
        "SET LOCAL role = r;\nCREATE TABLE t ();\nRESET role;\nSELECT 1;",
        "SELECT set_config(a, b, true) FROM t;\nSELECT 1;",
    ],
)  # fmt: skip
def test_local_setting_without_effect_on_the_next_file(sql: str) -> None:
    """Time limits, and settings that the file resets, are not reported."""
    assert found(sql, NEXT) == []
