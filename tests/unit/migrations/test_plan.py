from __future__ import annotations

from collections import Counter
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mosaic_gateway.errors import ExitCode, RefusedError
from mosaic_gateway.migrations.bundle import Bundle, LedgerName
from mosaic_gateway.migrations.model import AppliedRow, LedgerState, Migration, ProgressRow
from mosaic_gateway.migrations.parse import file_hash, prefix_hash, split
from mosaic_gateway.migrations.plan import (
    DatabaseNewerError,
    DriftError,
    PrefixChangedError,
    UnknownRowError,
    make_plan,
)

QUIET = settings(database=None, deadline=None, max_examples=300)
#: Few values, so that equal files and equal, decreasing and unknown timestamps are frequent.
CONTENTS = st.sampled_from(["SELECT 1;", "SELECT 2;", "SELECT 3;"])
WHENS = st.integers(1, 4)
FILES = st.lists(st.tuples(WHENS, CONTENTS), max_size=6)
ROWS = st.lists(
    st.builds(
        AppliedRow,
        hash=st.one_of(CONTENTS.map(lambda text: file_hash(text.encode())), st.just("f" * 64)),
        when=st.one_of(WHENS, st.none(), st.just(99)),
    ),
    max_size=8,
)


def bundle_of(*files: tuple[int, str]) -> Bundle:
    """Return the bundle of these (when, content)s; tagged m0, m1 and so on."""
    migrations = tuple(
        Migration(tag=f"m{index}", when=when, hash=file_hash(text.encode()), statements=split(text))
        for index, (when, text) in enumerate(files)
    )
    return Bundle(name="test", ledger=LedgerName("drizzle", "ledger"), migrations=migrations)


def rows_of(bundle: Bundle, *indexes: int) -> tuple[AppliedRow, ...]:
    """Return the ledger rows of the migrations at *indexes*."""
    return tuple(AppliedRow(hash=bundle.migrations[i].hash, when=bundle.migrations[i].when) for i in indexes)


def pending(bundle: Bundle, *rows: AppliedRow) -> list[str]:
    """Return the tags that a database with these *rows* still needs."""
    return [planned.migration.tag for planned in make_plan(bundle, LedgerState(applied=rows)).pending]


@QUIET
@given(FILES, ROWS)
def test_any_ledger_is_either_planned_or_refused(files: list[tuple[int, str]], rows: list[AppliedRow]) -> None:
    """A plan accounts for each migration once and for every row; otherwise the ledger is refused."""
    bundle = bundle_of(*files)
    try:
        plan = make_plan(bundle, LedgerState(applied=tuple(rows)))
    except RefusedError:
        shipped = Counter(m.hash for m in bundle.migrations)
        assert Counter(row.hash for row in rows) - shipped, "refused although every row matches a migration"
        return
    assert plan.applied + len(plan.pending) == len(bundle.migrations)
    order = [bundle.migrations.index(planned.migration) for planned in plan.pending]
    assert order == sorted(set(order))
    assert all(planned.start == 0 for planned in plan.pending)
    missing = Counter(m.hash for m in bundle.migrations) - Counter(row.hash for row in rows)
    assert Counter(planned.migration.hash for planned in plan.pending) == missing
    assert plan.up_to_date is not bool(missing)
    assert {row.hash for row in rows} <= {m.hash for m in bundle.migrations}


@QUIET
@given(FILES, st.data())
def test_applied_migrations_are_not_pending(files: list[tuple[int, str]], data: st.DataObject) -> None:
    """With rows of the bundle in any order and with any ``when``, exactly the other migrations are pending."""
    bundle = bundle_of(*files)
    indexes = data.draw(st.permutations(range(len(files)))) if files else []
    done = indexes[: data.draw(st.integers(0, len(indexes)))]
    rows = rows_of(bundle, *done)
    exact = pending(bundle, *rows)
    assert len(exact) == len(files) - len(done)
    assert Counter(exact) <= Counter(m.tag for m in bundle.migrations)
    if len({(m.hash, m.when) for m in bundle.migrations}) == len(files):
        assert exact == [m.tag for i, m in enumerate(bundle.migrations) if i not in done]
    moved = [AppliedRow(hash=row.hash, when=data.draw(st.one_of(WHENS, st.none()))) for row in rows]
    assert len(pending(bundle, *moved)) == len(exact)


def test_a_migration_with_an_older_when_is_pending() -> None:
    """A later migration whose ``when`` is before the last applied one is run, like 0009 of the gateway."""
    bundle = bundle_of((100, "SELECT 1;"), (50, "SELECT 2;"))
    assert pending(bundle, *rows_of(bundle, 0)) == ["m1"]


def test_files_with_the_same_bytes_are_distinguished_by_when() -> None:
    """Rows match by (hash, when) first, then by hash alone."""
    bundle = bundle_of((1, "SELECT 1;"), (2, "SELECT 1;"))
    assert pending(bundle, *rows_of(bundle, 1)) == ["m0"]
    assert pending(bundle, AppliedRow(hash=bundle.migrations[0].hash, when=7)) == ["m1"]


def test_duplicate_rows_are_accepted() -> None:
    """Concurrent drizzle runs insert the same row twice; the migration is applied, and no row is unknown."""
    bundle = bundle_of((1, "SELECT 1;"), (2, "SELECT 2;"))
    assert pending(bundle, *rows_of(bundle, 0, 0)) == ["m1"]
    assert pending(bundle, *rows_of(bundle, 0, 1, 1, 0)) == []


@pytest.mark.parametrize("order", [(0, 1), (1, 0)])
def test_the_same_when_with_another_hash_is_drift(order: tuple[int, int]) -> None:
    """The error names the edited migration, in either order of the rows."""
    bundle = bundle_of((1, "SELECT 1;"), (2, "SELECT 2; -- edited"))
    rows = (*rows_of(bundle, 0), AppliedRow(hash=file_hash(b"SELECT 2;"), when=2))
    with pytest.raises(DriftError) as caught:
        pending(bundle, *(rows[i] for i in order))
    assert caught.value.details["tags"] == ["m1"]
    assert "m1" in caught.value.message


@pytest.mark.parametrize("order", [(0, 1), (1, 0)])
def test_drift_is_detected_if_the_old_bytes_equal_another_migration(order: tuple[int, int]) -> None:
    """Of two rows with the same hash, the one that matches exactly is applied, and the other one is drift."""
    bundle = bundle_of((1, "SELECT 1;"), (2, "SELECT 2; -- was SELECT 1"))
    first = bundle.migrations[0].hash
    rows = (AppliedRow(hash=first, when=1), AppliedRow(hash=first, when=2))
    with pytest.raises(DriftError) as caught:
        pending(bundle, *(rows[i] for i in order))
    assert caught.value.details["tags"] == ["m1"]


@pytest.mark.parametrize("when", [3, 1])
def test_rows_after_the_whole_bundle_are_a_newer_database(when: int) -> None:
    """A later version's migration is recognised even if its ``when`` is older."""
    newer = bundle_of((1, "SELECT 1;"), (2, "SELECT 2;"), (when, "SELECT 3;"))
    older = bundle_of((1, "SELECT 1;"), (2, "SELECT 2;"))
    with pytest.raises(DatabaseNewerError) as caught:
        pending(older, *rows_of(newer, 0, 1, 2))
    assert caught.value.details["rows"] == [{"hash": newer.migrations[2].hash, "when": when}]
    assert caught.value.exit_code is ExitCode.REFUSED
    assert "upgrade" in str(caught.value.hint)


def test_an_older_foreign_row_is_unknown() -> None:
    """A foreign migration is not mistaken for one of a later version."""
    bundle = bundle_of((5, "SELECT 1;"), (6, "SELECT 2;"))
    foreign = AppliedRow(hash="f" * 64, when=3)
    for rows in ((foreign,), (foreign, *rows_of(bundle, 0)), (foreign, *rows_of(bundle, 0, 1))):
        with pytest.raises(UnknownRowError) as caught:
            pending(bundle, *rows)
        assert caught.value.details["rows"] == [{"hash": "f" * 64, "when": 3}]


def progress_of(tag: str, content: str) -> LedgerState:
    """Return a state in which this runner applied *content* as *tag*; the ledger has its row, of time 1."""
    digest = file_hash(content.encode())
    row = ProgressRow(tag=tag, hash=digest, applied=1, total=1, prefix="")
    return LedgerState(applied=(AppliedRow(hash=digest, when=1),), progress={tag: row})


def test_a_file_that_was_never_applied_is_no_drift() -> None:
    """A ledger without any row of the bundle is another application's, also if a row has the time of a file.

    Files of a common template, and times made by hand, are equal.
    """
    foreign = bundle_of((1, "SELECT 'other'"), (9, "SELECT 'application'"))
    bundle = bundle_of((1, "SELECT 1;"), (2, "SELECT 2;"))
    with pytest.raises(UnknownRowError) as caught:
        pending(bundle, *rows_of(foreign, 0, 1))
    assert "another application records its migrations there" in caught.value.message
    assert "or m0, whose time a row has, was changed after it was applied" in caught.value.message
    assert "--ledger NAME" in str(caught.value.hint)
    with pytest.raises(UnknownRowError) as caught:
        pending(bundle, *rows_of(foreign, 1))
    assert "changed" not in caught.value.message
    with pytest.raises(UnknownRowError, match="another application"):
        make_plan(bundle, progress_of("its_own_tag", "SELECT 'other'"))


def test_a_file_that_this_runner_applied_is_drift() -> None:
    """Its progress proves that it was applied, although no row of the ledger is one of the bundle's."""
    with pytest.raises(DriftError) as caught:
        make_plan(bundle_of((1, "SELECT 1; -- edited")), progress_of("m0", "SELECT 1;"))
    assert caught.value.details["tags"] == ["m0"]


@pytest.mark.parametrize("packaged", [False, True])
def test_hints_suit_whose_migrations_they_are(packaged: bool) -> None:
    """pip and this package are named only if its own migrations are refused."""
    bundle = replace(bundle_of((1, "SELECT 1;"), (2, "SELECT 2; -- edited")), packaged=packaged)
    states = (
        (DriftError, (*rows_of(bundle, 0), AppliedRow(hash="f" * 64, when=2))),
        (DatabaseNewerError, (*rows_of(bundle, 0, 1), AppliedRow(hash="f" * 64, when=3))),
        (UnknownRowError, (*rows_of(bundle, 0), AppliedRow(hash="f" * 64, when=-5))),
        (UnknownRowError, (AppliedRow(hash="f" * 64, when=-5),)),
    )
    for kind, rows in states:
        with pytest.raises(kind) as caught:
            pending(bundle, *rows)
        text = f"{caught.value.message} {caught.value.hint}"
        assert packaged or not any(word in text for word in ("pip ", "package", "reinstall"))
        assert not (packaged and "--ledger" in text)


def half_applied(bundle: Bundle, count: int) -> LedgerState:
    """Return the state after *count* statements of the bundle's first migration."""
    first = bundle.migrations[0]
    row = ProgressRow(
        tag=first.tag,
        hash=first.hash,
        applied=count,
        total=len(first.statements),
        prefix=prefix_hash(first.statements, count),
    )
    return LedgerState(progress={first.tag: row})


THREE = "SELECT 1;--> statement-breakpoint\nSELECT 2;--> statement-breakpoint\nSELECT 3;"


@pytest.mark.parametrize("count", [0, 1, 2, 3])
def test_a_half_applied_migration_resumes(count: int) -> None:
    """The plan begins with the first statement that has not taken effect."""
    bundle = bundle_of((1, THREE))
    assert make_plan(bundle, half_applied(bundle, count)).pending[0].start == count


@pytest.mark.parametrize(
    ("edited", "accepted"),
    [
        (THREE.replace("SELECT 3", "SELECT 30"), True),
        (THREE + "--> statement-breakpoint\nSELECT 4;", True),
        (THREE.rpartition("-->")[0], True),
        ("\n" + THREE, True),
        (THREE.replace("SELECT 2", "SELECT 20"), False),
        (THREE.partition("\n")[2], False),
        ("SELECT 1;", False),
        (THREE.replace("--> statement-breakpoint", "", 1), False),
    ],
)
def test_only_the_tail_of_a_half_applied_migration_may_be_edited(edited: str, accepted: bool) -> None:
    """With two of three statements applied, any change of these two is refused."""
    state = half_applied(bundle_of((1, THREE)), 2)
    if accepted:
        assert make_plan(bundle_of((1, edited)), state).pending[0].start == 2
    else:
        with pytest.raises(PrefixChangedError) as caught:
            make_plan(bundle_of((1, edited)), state)
        assert caught.value.details == {"tag": "m0", "applied": 2, "total": 3}
