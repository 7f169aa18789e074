"""The steps of an upgrade, and the reasons to refuse one."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mosaic_gateway.migrations.compatibility import BREAKING, breaking
from mosaic_gateway.migrations.lint.finding import Rule
from mosaic_gateway.migrations.model import Migration
from mosaic_gateway.migrations.parse import split
from mosaic_gateway_installer.upgrade.fetch import PackageSource
from mosaic_gateway_installer.upgrade.plan import (
    UpgradeFacts,
    downgrade,
    is_needed,
    refusal,
    upgrade_steps,
)

SAME = UpgradeFacts(
    installed_version="1.0.0", version="1.0.0", installed_schema="a", schema="a", same_program=True,
    cluster_major=18, programs_major=18, installed_programs="18.6", programs="18.6", vector="0.8.6",
    offered_vector="0.8.6",
)  # fmt: skip
NEWER = replace(SAME, version="1.1.0", schema="b", same_program=False)


def test_order_of_steps() -> None:
    """Nothing is stopped before the new program is copied, and nothing is changed before the backup."""
    assert upgrade_steps(NEWER, backup=True, ran=True, embedded=True, ahead=True) == (
        "program", "copy", "mark", "stop", "launch", "backup", "migrate", "start", "smoke-test", "switch", "seal",
        "prune",
    )  # fmt: skip


@settings(database=None, deadline=None)
@given(
    backup=st.booleans(), ran=st.booleans(), embedded=st.booleans(), service=st.booleans(), minor=st.booleans(),
    ahead=st.booleans(),
)  # fmt: skip
def test_omitted_steps(*, backup: bool, ran: bool, embedded: bool, service: bool, minor: bool, ahead: bool) -> None:
    """Steps that do not apply are omitted; the gateway runs afterwards only if it ran before."""
    facts = replace(NEWER, programs="18.7" if minor else "18.6")
    steps = upgrade_steps(facts, backup=backup, ran=ran, embedded=embedded, service=service, ahead=ahead)
    assert ("copy" in steps) is (backup and embedded and ahead)
    assert ("backup" in steps, "stop" in steps, "stop-again" in steps) == (backup, ran, not ran)
    assert ("runtime" in steps) is (minor and embedded)
    assert ("service" in steps) is service
    assert steps.index("launch") < steps.index("migrate") < steps.index("start") < steps.index("switch")
    if backup:
        assert steps.index("backup") < steps.index("migrate")


def test_pglite_programs_are_installed_before_the_stop() -> None:
    """PGlite's programs are installed between the mark, which identifies a killed run, and the stop."""
    facts = replace(
        NEWER, cluster_major=None, programs_major=None, installed_programs=None, programs=None, pglite_missing=True
    )
    assert upgrade_steps(facts, backup=True, ran=True, embedded=True) == (
        "program", "mark", "runtime", "stop", "launch", "backup", "migrate", "start", "smoke-test", "switch", "seal",
        "prune",
    )  # fmt: skip


@pytest.mark.parametrize(
    ("source", "requirement"),
    [
        (PackageSource(version="1.2"), "mosaic-gateway==1.2"),
        (PackageSource(version="1.2", extras=("pglite",)), "mosaic-gateway[pglite]==1.2"),
        (PackageSource(wheel=Path("/a b/g.whl"), extras=("pglite",)), "/a b/g.whl[pglite]"),
    ],
)
def test_requirement_for_pip(source: PackageSource, requirement: str) -> None:
    """The extra that a home uses is requested with a version and with a wheel."""
    assert source.requirement == requirement


def test_upgrade_is_needed() -> None:
    """A different program, schema or minor version of PostgreSQL requires an upgrade."""
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
        (replace(NEWER, breaking=("0010_gone",), other_sessions=2), "OTHER_GATEWAYS_INCOMPATIBLE"),
        (replace(NEWER, breaking=("0010_gone",)), None),
        (replace(NEWER, other_sessions=2), None),
        (replace(NEWER, server_major=19, dump_major=18), "NO_BACKUP"),
        (replace(NEWER, server_major=17, dump_major=18), None),
        (replace(NEWER, programs_major=17), "POSTGRES_MAJOR"),
        (replace(NEWER, programs_major=19), "POSTGRES_MAJOR"),
        (replace(NEWER, programs_major=19, majors=(18, 19)), None),
    ],
)
def test_refusals(facts: UpgradeFacts, code: str | None) -> None:
    """Refused: older pgvector, unsuitable major version, incompatible other gateways, a server without a backup."""
    refused = refusal(facts, backup=True)
    assert (refused.code if refused is not None else None) == code
    if refused is not None:
        assert refused.exit_code == 7
        assert refused.hint
    if code == "NO_BACKUP":
        assert refusal(facts, backup=False) is None


def test_downgrade() -> None:
    """Versions are compared as numbers; a downgrade to another schema is refused, one with the same schema is not."""
    assert downgrade("1.10.0", "1.9.0", "b", "a") is not None
    assert downgrade("1.10.0", "1.9.0", "a", "a") is None
    assert downgrade("1.9.0", "1.10.0", "b", "a") is None
    assert downgrade("0.2.0", "0.2.0rc1", "b", "a") is not None
    assert downgrade("0.2.0rc1", "0.2.0", "b", "a") is None
    assert downgrade("0.2.0.post1", "0.2.0", "b", "a") is not None


def test_breaking_rules_are_rules_of_lint() -> None:
    """Upgrades know lint's rules by name: a program copy does not have lint."""
    assert {Rule(name) for name in BREAKING}


def test_what_lint_was_told_to_allow_breaks_the_version_before() -> None:
    """A drop that a comment allows is found by the comment, wherever it stands; other allowances mean nothing."""

    def migration(tag: str, text: str) -> Migration:
        return Migration(tag=tag, when=1, hash=tag, statements=split(text))

    harmless = migration("0001_a", "CREATE TABLE t (a integer);")
    index = migration("0002_b", "-- lint: allow index-not-concurrent small table\nCREATE INDEX i ON t (a);")
    drop = migration("0003_c", "SELECT 1;\n--> statement-breakpoint\n-- lint: allow drop-column it is not read\n"
                     "ALTER TABLE t DROP COLUMN a;")  # fmt: skip
    two = migration("0004_d", "-- lint: allow index-not-concurrent, rename both are tiny\nSELECT 1;")
    assert breaking([harmless, index, drop, two]) == ("0003_c", "0004_d")
