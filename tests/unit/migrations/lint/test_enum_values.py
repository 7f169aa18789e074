"""Tests of the rules on enum values: which use of a word is a use of the value, and in which transaction."""

from __future__ import annotations

import pytest
from tests.unit.migrations.lint.bundles import bundle_of

from mosaic_gateway.migrations.lint.engine import lint_bundle_files
from mosaic_gateway.migrations.lint.finding import Profile

CUT = "\n--> statement-breakpoint\n"
ADD = "ALTER TYPE e ADD VALUE 'x';\n"
#: e is the enum to which the value is added; f is another enum with a label of the same name.
SCHEMA = (
    "CREATE TYPE e AS ENUM ('a');\nCREATE TYPE f AS ENUM ('x');\n"
    "CREATE TABLE t (id int, s e, l e[], n text, g f);\nCREATE TABLE u (s text);"
)
USES = [
    "SELECT 'x'::e;", "SELECT 'x'::text::e;", "UPDATE t SET s = 'x';", "UPDATE t SET n = 'y' WHERE s = 'x';",
    "UPDATE t SET s = CASE WHEN n = 'y' THEN 'x' ELSE s END;", "INSERT INTO t (id, s) VALUES (1, 'a'), (2, 'x');",
    "INSERT INTO t VALUES (1, 'x');", "INSERT INTO t (s) SELECT 'x' FROM u;",
    "SELECT 1 FROM t WHERE s IN ('a', 'x');", "INSERT INTO t (id) VALUES (1) ON CONFLICT (id) DO UPDATE SET s = 'x';",
    "DELETE FROM t WHERE coalesce(s, 'x') = 'a';", "CREATE INDEX ON t (id) WHERE s <> 'x';",
    "ALTER TABLE t ALTER s SET DEFAULT 'x';", "SELECT 1 FROM t k WHERE k.s = 'x';",
    "CREATE TABLE v (s e DEFAULT 'x');", "ALTER TABLE t ADD q e DEFAULT 'x' NOT NULL;",
    "CREATE VIEW v AS SELECT 'x'::e;", "ALTER TABLE t ADD CONSTRAINT c CHECK (s <> 'x');",
    "SELECT 1 FROM t WHERE s = ANY (ARRAY['x']::e[]);", "SELECT CASE s WHEN 'x' THEN 1 END FROM t;",
    "ALTER TABLE u ALTER s TYPE e USING 'x'::e;",
    "DO $$ BEGIN IF EXISTS (SELECT 1 FROM t) THEN UPDATE t SET s = 'x'; END IF; END $$;",
    "DO $$ DECLARE v e; BEGIN v := 'x'::e; END $$;", "DO $$ BEGIN EXECUTE 'UPDATE t SET s = ''x'''; END $$;",
    "CREATE FUNCTION h() RETURNS e LANGUAGE sql AS $$ SELECT 'x'::e $$;",
]  # fmt: skip
OTHER_USES = [
    "SELECT 'x';", "SELECT 'x'::f;", "UPDATE t SET n = 'x';", "UPDATE t SET g = 'x' WHERE g <> 'x';",
    "SELECT 'x'::text;", "INSERT INTO t (n, g) VALUES ('x', 'x');", "INSERT INTO u VALUES ('x');",
    "SELECT 1 FROM u WHERE s = 'x';", "CREATE TABLE v (g f DEFAULT 'x');", "CREATE TYPE h AS ENUM ('x');",
    "ALTER TYPE f ADD VALUE IF NOT EXISTS 'x';",
    "DO $$ BEGIN CREATE TYPE h AS ENUM ('x'); EXCEPTION WHEN duplicate_object THEN null; END $$;",
    "DO $$ BEGIN IF EXISTS (SELECT 1 FROM pg_enum WHERE enumlabel = 'x') THEN RAISE NOTICE 'x'; END IF; END $$;",
    "SELECT jsonb_build_object('x', 1) FROM t;", "COMMENT ON TABLE t IS 'x';", "SELECT 1 FROM t WHERE s::text = 'x';",
    "SELECT 1 FROM t JOIN u ON true WHERE u.s = 'x';", "ALTER TABLE t ALTER n SET DEFAULT 'x';",
    "DO $$ DECLARE v text := 'x'; BEGIN IF v = 'x' THEN v := 'x'; END IF; END $$;",
    "CREATE FUNCTION h() RETURNS e LANGUAGE plpgsql AS $$ BEGIN RETURN 'x'; END $$;",
]  # fmt: skip


def found(*sql: str, profile: Profile = Profile.SAFETY) -> list[tuple[str, str, int]]:
    """Return (rule, file, line) of the findings in a folder of files 0, 1, …."""
    findings = lint_bundle_files(bundle_of(**{f"{i:04}_f": text for i, text in enumerate(sql)}), profile=profile)
    return [(str(finding.rule), finding.file[3], finding.line) for finding in findings]


@pytest.mark.parametrize("use", USES)
def test_use_in_the_same_chunk(use: str) -> None:
    """A use in the chunk that adds the value is an error in both profiles."""
    assert found(SCHEMA, ADD + use) == [("enum-value-used", "1", 2)]
    assert ("enum-value-used", "1", 2) in found(SCHEMA, ADD + use, profile=Profile.RELEASE)


@pytest.mark.parametrize("use", USES)
def test_use_by_a_later_chunk_or_file(use: str) -> None:
    """A runner with one transaction for all files fails there: one warning for a value, in the profile safety only."""
    assert found(SCHEMA, ADD, use, use) == [("enum-value-portability", "2", 1)]
    assert found(SCHEMA, f"{ADD}{CUT}{use}") == [("enum-value-portability", "1", 4)]
    assert ("enum-value-portability", "2", 1) not in found(SCHEMA, ADD, use, profile=Profile.RELEASE)


@pytest.mark.parametrize("use", OTHER_USES)
def test_other_use_of_the_word(use: str) -> None:
    """A label of another type, a text, or a word that nothing compares with the enum is not a use of the value."""
    assert found(SCHEMA, ADD + use) == []
    assert found(SCHEMA, ADD, use) == []


def test_tables_that_the_folder_does_not_create() -> None:
    """The type of their columns is unknown: an error in the same chunk, which may fail, no warning in a later one."""
    assert found(ADD + "UPDATE other SET s = 'x';") == [("enum-value-used", "0", 2)]
    assert found(ADD + "SELECT 1 FROM other WHERE s = 'x';") == [("enum-value-used", "0", 2)]
    assert found(ADD, "UPDATE other SET s = 'x';\nSELECT 1 FROM other WHERE s = 'x';") == []


def test_columns_change() -> None:
    """The type of a column is the one that it has at that point of the folder."""
    changed = "ALTER TABLE t ALTER s TYPE text;"
    assert found(SCHEMA, changed, ADD + "UPDATE t SET s = 'x';") == []
    assert found(SCHEMA, "ALTER TABLE u ALTER s TYPE e USING s::e;", ADD, "UPDATE u SET s = 'x';")[0][1] == "3"
    assert (
        found(SCHEMA, "ALTER TABLE t RENAME TO w;\nALTER TABLE w RENAME s TO r;", ADD, "UPDATE w SET r = 'x';")[0][1]
        == "3"
    )
    assert (
        found(SCHEMA, "ALTER TYPE e RENAME TO h;", "ALTER TYPE h ADD VALUE 'x';", "UPDATE t SET s = 'x';")[0][1] == "3"
    )
    assert found(SCHEMA, "DROP TABLE t;\nCREATE TABLE t (s text);", ADD, "UPDATE t SET s = 'x';") == []


def test_type_created_anew() -> None:
    """The values of a type that is created again are usable at once."""
    assert found(SCHEMA, ADD, "DROP TYPE e CASCADE;\nCREATE TYPE e AS ENUM ('x');\nSELECT 'x'::e;") == []


def test_type_created_by_the_same_chunk() -> None:
    """The value is usable at once on PostgreSQL 17 and later, not before: a warning."""
    created = "CREATE TYPE e AS ENUM ('a');\nALTER TYPE public.e ADD VALUE 'x';\nSELECT 'x'::e;"
    assert found(created) == [("enum-value-portability", "0", 3)]
    assert found(created, profile=Profile.RELEASE) == []
    other = "CREATE TYPE other AS ENUM ('a');\nALTER TYPE e ADD VALUE 'x';\nSELECT 'x'::e;"
    assert found(other) == [("enum-value-used", "0", 3)]
