"""Ledger rows as drizzle-orm 1.0 writes them: ``when`` truncated to seconds. tests/interop runs the real one."""

from __future__ import annotations

import pytest

from mosaic_gateway.migrations.bundle import Bundle, LedgerName
from mosaic_gateway.migrations.matching import drizzle_name
from mosaic_gateway.migrations.model import AppliedRow, LedgerState, Migration
from mosaic_gateway.migrations.parse import split
from mosaic_gateway.migrations.plan import DriftError, UnknownRowError, make_plan

WHENS = (1745280000123, 1745290000456, 1745300000789)
MIGRATIONS = tuple(
    Migration(tag=f"m{n}", when=when, hash=f"hash {n}", statements=split("SELECT 1")) for n, when in enumerate(WHENS)
)
BUNDLE = Bundle(name="test", ledger=LedgerName("drizzle", "__drizzle_migrations"), migrations=MIGRATIONS)
TRUNCATED = tuple(AppliedRow(hash=m.hash, when=m.when // 1000 * 1000) for m in MIGRATIONS)


def test_a_row_truncated_to_seconds_is_known() -> None:
    """It is matched by its hash, even if two concurrent runs recorded it twice."""
    plan = make_plan(BUNDLE, LedgerState(applied=(*TRUNCATED[:2], TRUNCATED[1], TRUNCATED[0])))
    assert [planned.migration.tag for planned in plan.pending] == ["m2"]


def test_an_edited_file_is_identified_by_its_truncated_time() -> None:
    """The truncated time identifies the file to which the unknown hash belongs."""
    edited = AppliedRow(hash="another", when=TRUNCATED[1].when)
    with pytest.raises(DriftError) as caught:
        make_plan(BUNDLE, LedgerState(applied=(TRUNCATED[0], edited)))
    assert caught.value.details["tags"] == ["m1"]


def test_a_name_identifies_an_edited_file() -> None:
    """drizzle 1.0 takes a file with that name for applied, so a row with the name is the file's, whatever its time."""
    row = AppliedRow(hash="another", when=5, name=drizzle_name(MIGRATIONS[1]))
    with pytest.raises(DriftError) as caught:
        make_plan(BUNDLE, LedgerState(applied=(row,)))
    assert caught.value.details["tags"] == ["m1"]
    with pytest.raises(UnknownRowError) as unknown:
        make_plan(BUNDLE, LedgerState(applied=(AppliedRow(hash="another", when=5, name="its own"),)))
    assert unknown.value.details["rows"] == [{"hash": "another", "when": 5, "name": "its own"}]


def test_a_time_within_the_same_second_is_another_file() -> None:
    """Only a time in whole seconds can be a truncated one."""
    near = AppliedRow(hash="another", when=WHENS[1] - 1)
    with pytest.raises(UnknownRowError):
        make_plan(BUNDLE, LedgerState(applied=(TRUNCATED[0], near)))
