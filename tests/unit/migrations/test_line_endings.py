"""A file that git checked out with other line endings is the same migration."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mosaic_gateway.migrations.bundle import Bundle, LedgerName
from mosaic_gateway.migrations.line_endings import as_begun, variants
from mosaic_gateway.migrations.model import AppliedRow, LedgerState, Migration, ProgressRow
from mosaic_gateway.migrations.parse import Statements, file_hash, prefix_hash
from mosaic_gateway.migrations.plan import DriftError, PrefixChangedError, make_plan

UNIX = b"CREATE TABLE a (\n  n int\n);\n--> statement-breakpoint\nSELECT\n1;\n"
WINDOWS = UNIX.replace(b"\n", b"\r\n")
MIXED = UNIX.replace(b"\n", b"\r\n", 2)


def migration(content: bytes, *, tag: str = "0000_a", when: int = 1) -> Migration:
    """Return the migration with these bytes."""
    return Migration(
        tag=tag, when=when, hash=file_hash(content), statements=Statements(content.decode()), content=content
    )


def bundle(*migrations: Migration) -> Bundle:
    """Return a bundle of *migrations*."""
    return Bundle(name="test", ledger=LedgerName("drizzle", "ledger"), migrations=migrations)


@settings(database=None, deadline=None)
@given(st.lists(st.sampled_from(["a", "\n", "\r\n", "\r", "é"])).map("".join))
def test_variants_are_the_same_text(text: str) -> None:
    """The file with LF, with CRLF or with both has the same set of accepted hashes; a lone CR is no line ending."""
    one = migration(text.encode())
    found = variants(one)
    assert len({one.hash, *(other.hash for other in found)}) == len(found) + 1
    accepted = {file_hash(text.replace("\r\n", "\n").replace("\n", end).encode()) for end in ("\n", "\r\n")}
    assert {one.hash, *(other.hash for other in found)} == accepted | {one.hash}
    assert all(other.hash == file_hash(other.content) for other in found)


@pytest.mark.parametrize(("applied", "now"), [(UNIX, WINDOWS), (WINDOWS, UNIX), (UNIX, MIXED), (WINDOWS, MIXED)])
def test_a_migration_applied_with_other_line_endings_is_applied(applied: bytes, now: bytes) -> None:
    """In both directions, with any ``when`` and a duplicate row; the plan says which."""
    files = bundle(migration(b"SELECT 1;"), migration(now, tag="0001_b", when=2))
    own = AppliedRow(hash=files.migrations[0].hash, when=1)
    for when in (2, 7, None):
        row = AppliedRow(hash=file_hash(applied), when=when)
        assert make_plan(files, LedgerState(applied=(own, row))).other_line_endings == ("0001_b",)
    twice = (own, AppliedRow(hash=file_hash(applied), when=2), AppliedRow(hash=file_hash(applied), when=2))
    plan = make_plan(files, LedgerState(applied=twice))
    assert (plan.pending, plan.applied, plan.other_line_endings) == ((), 2, ("0001_b",))


def test_exact_rows_are_matched_first() -> None:
    """Of two files that differ only in line endings, each has its own row."""
    files = bundle(migration(UNIX), migration(WINDOWS, tag="0001_b", when=2))
    rows = tuple(AppliedRow(hash=one.hash, when=one.when) for one in reversed(files.migrations))
    assert make_plan(files, LedgerState(applied=rows)).other_line_endings == ()
    plan = make_plan(files, LedgerState(applied=rows[:1]))
    assert [planned.migration.tag for planned in plan.pending] == ["0000_a"]


def test_another_edit_is_still_drift() -> None:
    """Only the ends of lines may differ."""
    files = bundle(migration(b"SELECT 1;"), migration(WINDOWS + b" ", tag="0001_b", when=2))
    rows = (AppliedRow(hash=files.migrations[0].hash, when=1), AppliedRow(hash=file_hash(UNIX), when=2))
    with pytest.raises(DriftError):
        make_plan(files, LedgerState(applied=rows))


def test_a_half_applied_migration_continues_as_it_began() -> None:
    """The rest runs with the line endings of the applied part, which its progress identifies."""
    before, now = migration(WINDOWS), migration(UNIX)
    progress = ProgressRow(tag="0000_a", hash=before.hash, applied=1, total=2, prefix=prefix_hash(before.statements, 1))
    [planned] = make_plan(bundle(now), LedgerState(progress={"0000_a": progress})).pending
    assert (planned.start, planned.migration.hash) == (1, before.hash)
    assert planned.migration.statements[1].sql == "SELECT\r\n1;"
    assert as_begun(before, progress) is before
    with pytest.raises(PrefixChangedError):
        make_plan(bundle(migration(UNIX.replace(b"int", b"text"))), LedgerState(progress={"0000_a": progress}))
