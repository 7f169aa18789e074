from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mosaic_gateway.migrations.groups import Group, conflict_in, divide, group_around
from mosaic_gateway.migrations.parse import BREAKPOINT, split

CUT = f"{BREAKPOINT}\n"
A, B, C = "CREATE TABLE a (n integer);\n", "INSERT INTO a VALUES (1);\n", "INSERT INTO a VALUES (2);\n"
LOCAL = "SET LOCAL search_path = s;\n"
#: A file, its groups by their statements' numbers, and the numbers of the groups that need one transaction.
FILES = [
    (A + CUT + B, ["1", "2"], []),
    (A + CUT + LOCAL + CUT + B + CUT + C, ["1", "2 3 4"], [1]),
    (LOCAL + CUT + B + CUT + "COMMIT;" + CUT + C + CUT + A, ["1 2 3", "4", "5"], [0]),
    (f"BEGIN;{A}{B}COMMIT;", ["1"], [0]),
    (f"BEGIN;{A}{CUT}{B}{CUT}COMMIT;", ["1 2 3"], [0]),
    (f"BEGIN;{A}{CUT}{B}", ["1 2"], [0]),
    (f"COMMIT;{CUT}CREATE INDEX CONCURRENTLY i ON a (n);", ["1", "2"], []),
    (f"{A}COMMIT;CREATE INDEX CONCURRENTLY i ON a (n);", ["1", "2"], []),
    (f"{A}BEGIN TRANSACTION;{B}COMMIT;{C}", ["1", "2", "3"], [1]),
    (f"{A}{CUT}{B}BEGIN;{CUT}{C}END;{A}", ["1", "2", "3 4", "5"], [2]),
    (f"{LOCAL}BEGIN;{A}COMMIT;{B}", ["1 2", "3"], [0]),
    (f"BEGIN;{A}BEGIN;{B}COMMIT;{C}", ["1 2", "3"], [0]),
    (f"BEGIN;{A}COMMIT AND CHAIN;{B}COMMIT;{C}", ["1", "2", "3"], [0, 1]),
    (f"COMMIT;{CUT}{LOCAL}{CUT}{A}{CUT}LOCK a;{CUT}{B}", ["1", "2", "3", "4", "5"], []),
    (f"COMMIT;{CUT}{LOCAL}{CUT}BEGIN;{A}{CUT}{B}", ["1", "2", "3 4"], [2]),
    (f"{A}{CUT}SELECT open();{CUT}{B}{CUT}FETCH ALL FROM c;", ["1", "2 3 4"], [1]),
    (f"DECLARE c CURSOR WITH HOLD FOR SELECT 1;{CUT}{B}{CUT}FETCH ALL FROM c;", ["1", "2", "3"], []),
    (f"SELECT open();{CUT}DECLARE c CURSOR FOR SELECT 1;{CUT}FETCH c;{CUT}CLOSE c;", ["1", "2 3 4"], [1]),
    (f"SELECT open();{CUT}DECLARE c CURSOR FOR SELECT 1;{CUT}FETCH other;", ["1 2 3"], [0]),
    (f"{A}{CUT}{B}{CUT}COPY a FROM '/f' (FREEZE);{CUT}{C}", ["1 2 3 4"], [0]),
    (f"{A}{CUT}SELECT f();{CUT}DELETE FROM a WHERE CURRENT OF c;", ["1", "2 3"], [1]),
    (f"-- BEGIN\nSELECT 'COMMIT;' \"end\" -- COMMIT;{CUT}{B}", ["1", "2"], []),
    ("", [], []),
]


def groups_of(text: str) -> tuple[Group, ...]:
    """Return the groups of a file with this text."""
    return divide(split(text))


@pytest.mark.parametrize(("text", "numbers", "whole"), FILES)
def test_division(text: str, numbers: list[str], whole: list[int]) -> None:
    """A group begins at BEGIN or at what needs a transaction, and ends at COMMIT or at the end of the file."""
    groups = groups_of(text)
    assert [" ".join(str(statement.number) for statement in group.statements) for group in groups] == numbers
    assert [index for index, group in enumerate(groups) if group.cause is not None] == whole


def test_control_words_are_blanked_and_nothing_else() -> None:
    """Length, lines and positions of the text that is sent are those of the file; another BEGIN stays."""
    (group,) = groups_of(f"/* a */ BEGIN\n  ISOLATION LEVEL SERIALIZABLE;{A}COMMIT -- x\n;")
    assert group.texts == (f"/* a */      \n{' ' * 30};{A}           \n;",)
    assert group.modes.isolation == "SERIALIZABLE"
    (group,) = groups_of(f"BEGIN;{A}{CUT}BEGIN;{B}COMMIT;")
    assert group.texts[1].startswith("BEGIN;")
    assert group.commands == (1, 2)


def test_set_transaction_before_any_query_belongs_to_begin() -> None:
    """Its modes become those of the transaction, because the runner's record is a query; a later one is left."""
    for scope in ("LOCAL", "SESSION"):
        (group,) = groups_of(f"BEGIN;{CUT}SET {scope} TRANSACTION ISOLATION LEVEL SERIALIZABLE;{CUT}SELECT 1")
        assert (group.modes.isolation, group.texts[1].strip()) == ("SERIALIZABLE", ";")
    (group,) = groups_of(f"BEGIN;{CUT}SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY;{CUT}SELECT 1")
    assert (group.modes.isolation, group.modes.read_only, group.texts[1].strip()) == ("REPEATABLE READ", True, ";")
    assert group.commands == (0, 0, 1)
    (group,) = groups_of(f"{B}{LOCAL}{CUT}SET TRANSACTION READ ONLY;{CUT}SELECT 1")
    assert (group.modes.read_only, group.may_be_read_only) == (None, True)
    assert group.texts[1].startswith("SET TRANSACTION")
    chained = groups_of(f"BEGIN ISOLATION LEVEL SERIALIZABLE;{A}COMMIT AND CHAIN;{B}COMMIT;{C}")
    assert [group.modes.isolation for group in chained] == ["SERIALIZABLE", "SERIALIZABLE", None]


@pytest.mark.parametrize(
    "before", ["SET LOCAL a.b = '1'", "LOCK t", "SHOW lock_timeout", "SET CONSTRAINTS ALL DEFERRED"]
)
def test_what_takes_no_snapshot_may_precede_the_modes(before: str) -> None:
    """PostgreSQL allows these statements before SET TRANSACTION, in the same chunk and in an earlier one."""
    level = "TRANSACTION ISOLATION LEVEL SERIALIZABLE; SELECT 1; COMMIT"
    for text in (f"BEGIN; {before}; SET {level}", f"BEGIN; {before};{CUT}START {level}"):
        (group,) = groups_of(text)
        assert group.modes.isolation == "SERIALIZABLE"
        assert before in "".join(group.texts)
        assert sum(group.commands) == 2


def test_lines_and_numbers_are_those_of_the_file() -> None:
    """A chunk is divided only where a BEGIN follows or a COMMIT precedes other statements."""
    text = f"-- one\n\n{A}BEGIN;\n{B}COMMIT;\n{C}{CUT}COMMIT;\n"
    assert [(statement.number, statement.line) for statement in split(text)] == [(1, 1), (2, 4), (3, 7), (4, 9)]
    text = f"BEGIN;\n{A}{CUT}{B}{CUT}COMMIT;\n"
    assert [(statement.number, statement.line) for statement in split(text)] == [(1, 1), (2, 4), (3, 6)]
    assert groups_of(text)[0].cause is not None
    assert len(split("COMMIT; -- note\nBEGIN; SELECT 1")) == 2


CONFLICTS = [
    (f"{LOCAL}{CUT}{B}{CUT}CREATE INDEX CONCURRENTLY i ON a (n);", (3, 5), "SET LOCAL (statement 1, line 1)"),
    (f"BEGIN;{CUT}{B}{CUT}SELECT 1;\nVACUUM a;", (3, 5), "BEGIN (statement 1, line 1)"),
    ("BEGIN; CREATE INDEX CONCURRENTLY i ON a (n); COMMIT;", (1, 1), "BEGIN"),
    (f"LOCK a;{CUT}ALTER TYPE s.m ADD VALUE 'x';{CUT}{B}{CUT}INSERT INTO t VALUES ('x');", (4, 5), "(line 2)"),
    (f"BEGIN;{CUT}DO $$ BEGIN COMMIT; END $$", (2, 2), "a DO block that commits"),
    (f"{LOCAL}{CUT}SELECT 'a{CUT}b'", (2, 3), "inside of a quote"),
    (f"SET LOCAL standard_conforming_strings = off;{CUT}SELECT 1", (1, 1), "standard_conforming_strings"),
    (
        f"BEGIN; SET client_encoding = 'UTF8';{CUT}SET client_encoding = 'LATIN1';{CUT}SELECT 1",
        (2, 2),
        "client_encoding",
    ),
    (f"BEGIN;{CUT}SET standard_conforming_strings = only;{CUT}SELECT 1", (2, 2), "standard_conforming_strings"),
    (f"BEGIN; SET a.b = 'x'; SET LOCAL a.b = 'y'; COMMIT;{CUT}{B}", (1, 1), "both for the session"),
    (f"BEGIN; SELECT set_config(f(), 'x', true); COMMIT;{CUT}{B}", (1, 1), "both for the session"),
]
HARMLESS = [
    f"{LOCAL}{CUT}CREATE TYPE m AS ENUM ('a');{CUT}ALTER TYPE m ADD VALUE 'x';{CUT}SELECT 'x'::m",
    f"{LOCAL}{CUT}ALTER TYPE m ADD VALUE 'x';{CUT}CREATE TYPE n AS ENUM ('x');{CUT}COMMENT ON TYPE n IS 'x'",
    f"{LOCAL}{CUT}ALTER TYPE m ADD VALUE 'x';{CUT}ALTER TYPE n ADD VALUE 'x'",
    f"CREATE INDEX CONCURRENTLY i ON a (n);{CUT}{LOCAL}",
    f"{LOCAL}COMMIT;{CUT}CREATE INDEX CONCURRENTLY i ON a (n);",
    f"ALTER TYPE m ADD VALUE 'x';{CUT}INSERT INTO t VALUES ('x');",
    f"BEGIN; SET a.b = 'x'; SET LOCAL a.c = 'y'; COMMIT;{CUT}{B}",
    f"SELECT set_config(f(), 'x', true);{CUT}{B}",
    f"CREATE VIEW v AS SELECT pg_try_advisory_xact_lock(1);{CUT}VACUUM",
    (
        "CREATE FUNCTION f() RETURNS text LANGUAGE sql BEGIN ATOMIC; SELECT set_config('x.y', '', true); END;"
        f"{CUT}CREATE INDEX CONCURRENTLY i ON a (n)"
    ),
    f"BEGIN;{CUT}SET standard_conforming_strings = on;{CUT}SET client_encoding = 'UTF8';{CUT}{B}{CUT}COMMIT;",
    f"BEGIN;{CUT}SET SESSION standard_conforming_strings TO 'on';{CUT}{B}{CUT}COMMIT;",
]


@pytest.mark.parametrize(("text", "place", "named"), CONFLICTS)
def test_a_group_that_cannot_be_one_transaction_is_recognised(text: str, place: tuple[int, int], named: str) -> None:
    """The place of the statement at fault is returned; the reason names the other one."""
    groups = groups_of(text)
    found = [conflict_in(group, followed=group is not groups[-1]) for group in groups]
    (conflict,) = [conflict for conflict in found if conflict is not None]
    assert (conflict.what.number, conflict.what.line) == place
    assert named in conflict.reason


def test_a_conflict_names_the_end_of_the_group() -> None:
    """A group ends at its COMMIT, or at the end of the file."""
    for end, named in ((f"{CUT}COMMIT;{CUT}{B}", "up to the COMMIT in statement 3"), ("", "all that follows it")):
        groups = groups_of(f"BEGIN;{CUT}CREATE INDEX CONCURRENTLY i ON a (n);{end}")
        conflict = conflict_in(groups[0], followed=bool(end))
        assert conflict is not None
        assert conflict.reason.endswith(named)


@pytest.mark.parametrize("text", HARMLESS)
def test_what_a_transaction_allows_is_no_conflict(text: str) -> None:
    """A label of another type, and what precedes or follows the group, are not at fault."""
    groups = groups_of(text)
    assert [conflict_in(group, followed=group is not groups[-1]) for group in groups] == [None] * len(groups)


def test_a_divided_group_is_found() -> None:
    """A count of applied statements inside of a group names it, one at its borders does not."""
    statements = split(A + CUT + LOCAL + CUT + B + CUT + C)
    assert [group_around(statements, count) is None for count in range(5)] == [True, True, False, False, True]


PIECES = st.sampled_from(
    [A, B, LOCAL, "BEGIN;", "COMMIT;", "COMMIT AND CHAIN;", "LOCK a;", CUT, "-- x\n", "BEGIN READ ONLY;"]
)


@settings(database=None, deadline=None, max_examples=300)
@given(st.lists(PIECES, max_size=12).map("".join))
def test_every_statement_is_in_one_group_in_its_order(text: str) -> None:
    """The texts of the groups are those of the file, and only single statements need no transaction."""
    statements = split(text)
    groups = divide(statements)
    assert tuple(statement for group in groups for statement in group.statements) == statements
    assert [statement.number for statement in statements] == list(range(1, len(statements) + 1))
    lines = text.split("\n")
    for group in groups:
        assert group.cause is not None or len(group.statements) == 1
        for statement, sent in zip(group.statements, group.texts, strict=True):
            assert len(sent) == len(statement.sql)
            assert statement.sql.split("\n", maxsplit=1)[0] in lines[statement.line - 1]
