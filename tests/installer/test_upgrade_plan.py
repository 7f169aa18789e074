"""What an upgrade consists of and when it is refused: pure decisions."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mosaic_gateway.migrations.compatibility import breaking
from mosaic_gateway.migrations.model import Migration
from mosaic_gateway.migrations.parse import split
from mosaic_gateway_installer.upgrade.fetch import PackageSource
from mosaic_gateway_installer.upgrade.plan import (
    UpgradeFacts,
    downgrade,
    is_needed,
    order_of,
    refusal,
    upgrade_steps,
)

SAME = UpgradeFacts(
    installed_version="1.0.0", version="1.0.0", installed_schema="a", schema="a", same_program=True,
    cluster_major=18, programs_major=18, installed_programs="18.6", programs="18.6", vector="0.8.6",
    offered_vector="0.8.6",
)  # fmt: skip
NEWER = replace(SAME, version="1.1.0", schema="b", same_program=False)


def test_the_steps_are_in_this_order() -> None:
    """Nothing is stopped before the new program is there, nothing is changed before the backup."""
    assert upgrade_steps(NEWER, backup=True, ran=True, embedded=True, ahead=True) == (
        "program", "copy", "mark", "stop", "launch", "backup", "migrate", "start", "smoke-test", "switch", "seal",
        "prune",
    )  # fmt: skip


@settings(database=None)
@given(
    backup=st.booleans(), ran=st.booleans(), embedded=st.booleans(), service=st.booleans(), minor=st.booleans(),
    ahead=st.booleans(),
)  # fmt: skip
def test_what_does_not_apply_is_left_out(
    *, backup: bool, ran: bool, embedded: bool, service: bool, minor: bool, ahead: bool
) -> None:
    """Each plan is the full one less what does not apply; what has run serves afterwards, what has not does not."""
    facts = replace(NEWER, programs="18.7" if minor else "18.6")
    steps = upgrade_steps(facts, backup=backup, ran=ran, embedded=embedded, service=service, ahead=ahead)
    assert ("copy" in steps) is (backup and embedded and ahead)
    assert ("backup" in steps, "stop" in steps, "stop-again" in steps) == (backup, ran, not ran)
    assert ("runtime" in steps) is (minor and embedded)
    assert ("service" in steps) is service
    assert steps.index("launch") < steps.index("migrate") < steps.index("start") < steps.index("switch")
    if backup:
        assert steps.index("backup") < steps.index("migrate")


def test_pglite_is_fetched_before_anything_stops() -> None:
    """Its programs come between the mark, by which a killed run is known, and the stop; its backup is sealed."""
    facts = replace(NEWER, cluster_major=None, programs_major=None, installed_programs=None, programs=None, pglite=True)
    assert upgrade_steps(facts, backup=True, ran=True, embedded=True) == (
        "program", "mark", "runtime", "stop", "launch", "backup", "migrate", "start", "smoke-test", "switch", "seal",
        "prune",
    )  # fmt: skip


@pytest.mark.parametrize(
    ("wish", "requirement"),
    [
        (PackageSource(version="1.2"), "mosaic-gateway==1.2"),
        (PackageSource(version="1.2", extras=("pglite",)), "mosaic-gateway[pglite]==1.2"),
        (PackageSource(wheel=Path("/a b/g.whl"), extras=("pglite",)), "/a b/g.whl[pglite]"),
    ],
)
def test_what_pip_is_asked_for(wish: PackageSource, requirement: str) -> None:
    """The extra that a home uses comes along with a version and with a wheel."""
    assert wish.requirement == requirement


def test_a_new_minor_version_or_schema_or_program_is_a_reason() -> None:
    """Nothing is to be done only where all three are the package's own."""
    assert not is_needed(SAME)
    assert is_needed(replace(SAME, same_program=False))
    assert is_needed(replace(SAME, schema="b"))
    assert is_needed(replace(SAME, programs="18.7"))


@pytest.mark.parametrize(
    ("facts", "code"),
    [
        (NEWER, None),
        (replace(SAME, vector="0.9.0"), "VECTOR_OLDER"),
        (replace(SAME, vector="0.10.0", offered_vector="0.9.9"), "VECTOR_OLDER"),
        (replace(SAME, vector="0.8.6", offered_vector="0.10.0"), None),
        (replace(NEWER, breaking=("0010_gone",), others=2), "OTHERS_WOULD_BREAK"),
        (replace(NEWER, breaking=("0010_gone",)), None),
        (replace(NEWER, others=2), None),
        (replace(NEWER, server_major=19, dump_major=18), "NO_BACKUP"),
        (replace(NEWER, server_major=17, dump_major=18), None),
        (replace(NEWER, programs_major=17), "POSTGRES_MAJOR"),
        (replace(NEWER, programs_major=19), "POSTGRES_MAJOR"),
        (replace(NEWER, programs_major=19, majors=(18, 19)), None),
    ],
)
def test_what_would_harm_is_refused(facts: UpgradeFacts, code: str | None) -> None:
    """Older pgvector, older or unreachable PostgreSQL, other gateways that would break, a server without a backup."""
    refused = refusal(facts, backup=True)
    assert (refused.code if refused is not None else None) == code
    if refused is not None:
        assert refused.exit_code == 7
        assert refused.hint
    if code == "NO_BACKUP":
        assert refusal(facts, backup=False) is None


def test_an_older_version_is_refused_only_where_it_does_not_know_the_schema() -> None:
    """Versions are compared as numbers; going back within one schema is nobody's harm."""
    assert downgrade("1.10.0", "1.9.0", "b", "a") is not None
    assert downgrade("1.10.0", "1.9.0", "a", "a") is None
    assert downgrade("1.9.0", "1.10.0", "b", "a") is None
    assert order_of("18.10") > order_of("18.9")
    assert order_of("1.0.0.dev1") == (1, 0, 0)


def test_what_lint_was_told_to_allow_breaks_the_version_before() -> None:
    """A drop that a comment allows is found by the comment, wherever it stands; other allowances mean nothing."""

    def migration(tag: str, text: str) -> Migration:
        return Migration(tag=tag, when=1, hash=tag, statements=split(text))

    harmless = migration("0001_a", "CREATE TABLE t (a integer);")
    index = migration("0002_b", "-- lint: allow index-not-concurrent small table\nCREATE INDEX i ON t (a);")
    drop = migration("0003_c", "SELECT 1;\n--> statement-breakpoint\n-- lint: allow drop-column nobody reads it\n"
                     "ALTER TABLE t DROP COLUMN a;")  # fmt: skip
    two = migration("0004_d", "-- lint: allow index-not-concurrent, rename both are tiny\nSELECT 1;")
    assert breaking([harmless, index, drop, two]) == ("0003_c", "0004_d")
