"""Property tests of lint with arbitrary files."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from mosaic_gateway.migrations.gate import JOURNAL_NAME
from mosaic_gateway.migrations.lint.engine import lint_bundle_files
from mosaic_gateway.migrations.lint.finding import META_RULES, Profile, Rule

QUIET = settings(database=None, deadline=None, max_examples=150)
BREAKPOINT = "--> statement-breakpoint"
PIECES = st.sampled_from([
    BREAKPOINT,
    "SELECT 1;", "\n", "\r\n", " ", "'", '"', "$$", "/*", "*/", "--", "\\", "\0", "é", "\U0001f600", ";", "(",
    "-- lint: allow rename x\n", "-- lint: allow", "DROP TABLE t;", "COPY t FROM STDIN;", "BEGIN;", "DO $$ BEGIN",
    "COMMIT; END $$;", "ALTER TYPE e ADD VALUE 'x';", "ALTER TABLE t", " ADD b int NOT NULL;", "SET LOCAL a.b = 'c';",
])  # fmt: skip
TEXTS = st.lists(PIECES, max_size=12).map("".join)
#: Independent statements with one finding each.
FAULTY = {
    "DROP TABLE a;": "drop-table",
    "ALTER TABLE b RENAME TO c;": "rename",
    "ALTER TABLE d DROP x;": "drop-column",
    "CREATE INDEX ON f (x);": "index-not-concurrent",
    "ROLLBACK;": "transaction-control",
    "SET search_path = x;": "session-setting",
    "SELEC;": "syntax-error",
    "COPY g FROM STDIN;": "copy-stdin",
}
CHUNKS = st.lists(st.sampled_from(["SELECT 1;", "CREATE TABLE é ();", *FAULTY]), min_size=1, max_size=8)


@QUIET
@given(st.one_of(TEXTS.map(str.encode), st.binary(max_size=40)), st.binary(max_size=40))
def test_findings_of_arbitrary_bytes_have_a_valid_line(sql: bytes, journal: bytes) -> None:
    """For arbitrary bytes lint terminates, and each finding names an existing line of a file of the bundle."""
    contents = {"0000_a.sql": sql, JOURNAL_NAME: journal}
    for finding in lint_bundle_files(contents, profile=Profile.RELEASE):
        assert finding.file in contents
        assert 1 <= finding.line <= contents[finding.file].count(b"\n") + 1
        assert finding.why
        assert finding.instead


@QUIET
@given(CHUNKS, st.sampled_from(["", "\n", "-- words ' \n", "/* ; */ "]))
def test_every_fault_is_found_on_its_line(chunks: list[str], before: str) -> None:
    """For any sequence of chunks, each faulty one is reported once on its line, and no other is."""
    text = f"\n{BREAKPOINT}\n".join(f"{before}{chunk}" for chunk in chunks)
    lines = text.split("\n")
    found = [
        (str(finding.rule), lines[finding.line - 1].endswith(tuple(s for s, r in FAULTY.items() if r == finding.rule)))
        for finding in lint_bundle_files({"0000_a.sql": text.encode()}, profile=Profile.RELEASE)
        if finding.file == "0000_a.sql" and finding.rule != Rule.JOURNAL_FILE
    ]
    assert found == [(FAULTY[chunk], True) for chunk in chunks if chunk in FAULTY]


@QUIET
@given(CHUNKS, st.sampled_from(sorted(set(Rule) - META_RULES)))
def test_allow_comment_suppresses_only_its_rule(chunks: list[str], rule: Rule) -> None:
    """At the start of a file it suppresses all findings of its rule in that file; an unused one is reported."""
    text = f"\n{BREAKPOINT}\n".join(chunks)
    plain = lint_bundle_files({"0000_a.sql": text.encode()}, profile=Profile.RELEASE)
    allowing = lint_bundle_files({"0000_a.sql": f"-- lint: allow {rule} so\n{text}".encode()}, profile=Profile.RELEASE)
    remaining = [
        (finding.rule, finding.file) for finding in plain if (finding.rule, finding.file) != (rule, "0000_a.sql")
    ]
    unused = [(Rule.UNUSED_ALLOW, "0000_a.sql")] if len(remaining) == len(plain) else []
    assert [(finding.rule, finding.file) for finding in allowing] == [*unused, *remaining]
