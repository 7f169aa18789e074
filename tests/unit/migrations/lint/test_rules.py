"""Tests of each rule with invalid SQL that it reports, and with similar valid SQL that it does not."""

from __future__ import annotations

import pytest
from tests.unit.migrations.lint.bundles import LintOne

from mosaic_gateway.migrations.lint.finding import META_RULES, Rule

CUT = "\n--> statement-breakpoint\n"
TABLE = "CREATE TABLE t (a int);"
PROCEDURE = "CREATE PROCEDURE p(n int) LANGUAGE plpgsql AS $$ BEGIN n := 1; COMMIT; END $$;"
#: rule → (SQL with findings of that rule only, the lines of the findings).
BAD: dict[str, list[tuple[str | bytes, list[int]]]] = {
    "encoding": [(b"SELECT 1;\nSELECT '\xe9';", [2]), (b"SELECT 1;\n\n-- \0", [3])],
    "byte-order-mark": [(b"\xef\xbb\xbfSELECT 1;", [1])],
    "line-endings": [(b"SELECT 1;\nSELECT 2;\r\n", [2]), (b"SELECT '\r';", [1])],
    "syntax-error": [
        ("SELECT 1;\nSELEC 2;", [2]),
        (f"SELECT 1;{CUT}\n\nCREATE TABLE (;", [5]),
        ("SELECT '\u00e9\u00e9' AS \U0001f600\nFROM a b c;", [2]),
        ("CREATE TABLE t (a int", [1]),
    ],
    "unterminated": [
        ("SELECT 1;\nSELECT 'a;", [2]),
        ('SELECT "a;', [1]),
        ("/* a\n/* b */", [1]),
        ("\nDO $x$ BEGIN NULL; END $$;", [2]),
        (f"DO $$ BEGIN{CUT}END $$;", [1, 3]),
    ],
    "psql-command": [("\\set x 1", [1]), ("SELECT 1;\n\\gexec", [2]), (f"SELECT 1;{CUT}\n\\connect other", [4])],
    "copy-stdin": [
        ("COPY t FROM STDIN;", [1]),
        ("SELECT 1;\nCOPY t (a) FROM stdin WITH (FORMAT csv);\n1\n2\n\\.\n", [2]),
        ("COPY t TO STDOUT;", [1]),
    ],
    "breakpoint-spelling": [
        ("SELECT 1;\n-->statement-breakpoint\nSELECT 2;", [2]),
        ("SELECT 1;\n--> Statement breakpoint\nSELECT 2;", [2]),
        ("SELECT 1;\n-- statement-breakpoint\nSELECT 2;", [2]),
    ],
    "empty-chunk": [(f"SELECT 1;{CUT}", [3]), (f"SELECT 1;{CUT}\n-- only words{CUT}SELECT 2;", [4])],
    "empty-migration": [("", [1]), ("-- nothing yet\n", [1]), (f"-- a{CUT};", [1])],
    "transaction-control": [
        ("SELECT 1;\nROLLBACK;", [2]),
        ("ABORT;", [1]),
        (f"BEGIN;{CUT}SELECT 1;\nROLLBACK TRANSACTION;{CUT}COMMIT;", [4]),
        ("PREPARE TRANSACTION 'x';", [1]),
        ("COMMIT PREPARED 'x';", [1]),
        ("SET SESSION AUTHORIZATION someone;", [1]),
    ],
    "transaction-scope": [
        (f"SET LOCAL lock_timeout = '1s';{CUT}SELECT 1;{CUT}CREATE INDEX CONCURRENTLY i ON t (a);", [5]),
        (f"BEGIN;{CUT}VACUUM t;{CUT}COMMIT;", [3]),
        ("BEGIN;\nSELECT 1;\nCREATE INDEX CONCURRENTLY i ON t (a);\nCOMMIT;", [3]),
        (f"LOCK TABLE t;{CUT}DO $$ BEGIN COMMIT; END $$;", [3]),
        (f"BEGIN;{CUT}ALTER TYPE e ADD VALUE 'x';{CUT}UPDATE t SET e = 'x';{CUT}COMMIT;", [5]),
    ],
    "enum-value-used": [
        ("ALTER TYPE e ADD VALUE 'x';\nUPDATE t SET e = 'x';", [2]),
        ("ALTER TYPE e ADD VALUE IF NOT EXISTS 'x';\nALTER TABLE t ALTER a SET DEFAULT 'x';\nSELECT 'x'::e;", [2, 3]),
        ("ALTER TYPE e ADD VALUE 'x';\nDO $$ BEGIN UPDATE t SET e = 'x'; END $$;", [2]),
        ("ALTER TYPE e ADD VALUE 'x';\nCREATE FUNCTION f() RETURNS e LANGUAGE sql AS $$ SELECT 'x'::e $$;", [2]),
        ("CREATE TYPE other AS ENUM ('a');\nALTER TYPE e ADD VALUE 'x';\nSELECT 'x'::e;", [3]),
    ],
    "commits-itself": [
        ("DO $$ BEGIN PERFORM 1; COMMIT; END $$;", [1]),
        ("DO LANGUAGE plpgsql 'BEGIN ROLLBACK AND CHAIN; END'", [1]),
        (f"{PROCEDURE}{CUT}CALL public.p(1);", [3]),
        (f"{PROCEDURE}{CUT}DO $$ BEGIN CALL p(1); END $$;", [3]),
    ],
    "needs-own-chunk": [
        ("SELECT 1;\nDO $$ BEGIN COMMIT; END $$;", [2]),
        (f"{PROCEDURE}{CUT}SELECT 1;\nCALL p(1);", [4]),
        (f"{PROCEDURE}{CUT}BEGIN;{CUT}CALL p(1);{CUT}COMMIT;", [5]),
        ("SELECT 1;\nCREATE INDEX CONCURRENTLY i ON t (a);", [2]),
        ("DROP INDEX CONCURRENTLY i;\nSELECT 1;", [1]),
        ("REINDEX TABLE CONCURRENTLY t;\nSELECT 1;", [1]),
        ("REINDEX SCHEMA public;\nSELECT 1;", [1]),
        ("VACUUM t;\nVACUUM t;", [1, 2]),
        ("ALTER SYSTEM SET work_mem = '8MB';\nSELECT 1;", [1]),
        ("CREATE DATABASE d;\nSELECT 1;", [1]),
        ("DROP DATABASE d;\nSELECT 1;", [1]),
        ("CREATE TABLESPACE s LOCATION '/s';\nSELECT 1;", [1]),
        ("DROP TABLESPACE s;\nSELECT 1;", [1]),
        ("CREATE SUBSCRIPTION s CONNECTION '' PUBLICATION p;\nSELECT 1;", [1]),
        ("DROP SUBSCRIPTION s;\nSELECT 1;", [1]),
        ("ALTER TABLE t DETACH PARTITION p CONCURRENTLY;\nSELECT 1;", [1]),
        ("CLUSTER;\nSELECT 1;", [1]),
        ("DISCARD ALL;\nSELECT 1;", [1]),
    ],
    "concurrently-if-not-exists": [("CREATE UNIQUE INDEX CONCURRENTLY IF NOT EXISTS i ON t (a);", [1])],
    "temporary-object": [
        (f"CREATE TEMP TABLE t (a int);{CUT}INSERT INTO t VALUES (1);", [1]),
        (f"CREATE TEMPORARY TABLE t AS SELECT 1;{CUT}SELECT 1;", [1]),
        (f"SELECT 1 AS a INTO TEMP t;{CUT}SELECT 1;", [1]),
        (f"CREATE TEMP VIEW v AS SELECT 1;{CUT}SELECT 1;", [1]),
        (f"CREATE TEMP SEQUENCE s;{CUT}SELECT 1;", [1]),
        (f"CREATE TABLE pg_temp.t (a int);{CUT}SELECT 1;", [1]),
        (f"CREATE FUNCTION pg_temp.f() RETURNS int LANGUAGE sql AS 'SELECT 1';{CUT}SELECT 1;", [1]),
        (f"CREATE TYPE pg_temp.e AS ENUM ('a');{CUT}SELECT 1;", [1]),
        (f"CREATE DOMAIN pg_temp.d AS text;{CUT}SELECT 1;", [1]),
        (f"DECLARE c CURSOR WITH HOLD FOR SELECT 1;{CUT}FETCH c;", [1]),
        (f"PREPARE p AS SELECT 1;{CUT}EXECUTE p;", [1]),
    ],
    "session-setting": [
        (f"SET search_path = other;{CUT}SELECT 1;", [1]),
        ("SET SESSION lock_timeout TO '1s';", [1]),
        ("SET ROLE someone;", [1]),
        ("SET TIME ZONE 'UTC';", [1]),
        ("SET SESSION CHARACTERISTICS AS TRANSACTION READ ONLY;", [1]),
        ("SELECT pg_catalog.set_config('search_path', '', false);", [1]),
    ],
    "drop-table": [
        ("DROP TABLE t;", [1]),
        ("DROP TABLE IF EXISTS public.t, other.u CASCADE;", [1, 1]),
        ("DROP VIEW v;", [1]),
        ("DROP MATERIALIZED VIEW v;", [1]),
        ("DROP FOREIGN TABLE f;", [1]),
        ("DROP SCHEMA s CASCADE;", [1]),
        (f"DROP TABLE t;{CUT}{TABLE}", [1]),
    ],
    "drop-column": [
        ("ALTER TABLE t DROP COLUMN a;", [1]),
        ("ALTER TABLE t\n  ADD b int,\n  DROP a;", [1]),
        ("ALTER TABLE t DROP a, ADD a text;", [1]),
        ("DROP TYPE e CASCADE;", [1]),
        ("DROP EXTENSION vector CASCADE;", [1]),
    ],
    "rename": [
        ("ALTER TABLE t RENAME TO u;", [1]),
        ("ALTER VIEW v RENAME TO w;", [1]),
        ("ALTER TABLE t RENAME COLUMN a TO b;", [1]),
        ("ALTER TABLE t RENAME a TO b;", [1]),
        ("ALTER TABLE t SET SCHEMA s;", [1]),
        ("ALTER TYPE e RENAME VALUE 'a' TO 'b';", [1]),
        ("ALTER TYPE e RENAME TO f;", [1]),
        ("ALTER SCHEMA s RENAME TO t;", [1]),
    ],
    "type-change": [
        ("ALTER TABLE t ALTER a TYPE text;", [1]),
        ("ALTER TABLE t ALTER COLUMN a SET DATA TYPE int;", [1]),
    ],
    "not-null": [
        ("ALTER TABLE t ADD COLUMN b int NOT NULL;", [1]),
        ("ALTER TABLE t ALTER a SET NOT NULL;", [1]),
        ("ALTER TABLE t ADD CONSTRAINT n NOT NULL a;", [1]),
        (f"ALTER TABLE t ADD b int;{CUT}ALTER TABLE t ALTER b SET NOT NULL;", [3]),
        (f"ALTER TABLE t ALTER a SET DEFAULT 1;{CUT}ALTER TABLE t ALTER a SET NOT NULL;", [3]),
        (
            CUT.join(
                f"ALTER TABLE t {change};"
                for change in ("ADD b int DEFAULT 1", "ALTER b DROP DEFAULT", "ALTER b SET NOT NULL")
            ),
            [5],
        ),
    ],
    "constraint-validated": [
        ("ALTER TABLE t ADD CONSTRAINT c CHECK (a > 0);", [1]),
        ("ALTER TABLE t ADD FOREIGN KEY (a) REFERENCES u (a);", [1]),
        ("ALTER TABLE t ADD UNIQUE (a);", [1]),
        ("ALTER TABLE t ADD PRIMARY KEY (a);", [1]),
        ("ALTER TABLE t ADD EXCLUDE USING gist (a WITH =);", [1]),
        ("ALTER TABLE t ADD b int REFERENCES u (a) UNIQUE;", [1, 1]),
    ],
    "index-not-concurrent": [
        ("CREATE INDEX i ON t (a);", [1]),
        ("CREATE UNIQUE INDEX ON other.t (a);", [1]),
        (f"{TABLE}{CUT}DROP TABLE t;{CUT}CREATE INDEX i ON t (a);", [5]),
    ],
}
#: rule → similar SQL without findings.
GOOD: dict[str, list[str | bytes]] = {
    "encoding": ["SELECT '\u00e9 \U0001f600';"],
    "syntax-error": ["SELECT 1", f"SELECT 1;{CUT}SELECT 2", "SELECT 1;;"],
    "unterminated": ["SELECT $a$ ' $b$ $a$, E'\\'', 'it''s' /* /* ' */ */ -- '", "SELECT '\n;\n';"],
    "psql-command": ["SELECT '\n\\d';", "SELECT E'\\\\';", "-- \\d\nSELECT 1;"],
    "copy-stdin": ["COPY t FROM '/a/file';", "COPY t TO PROGRAM 'cat';", "SELECT 'COPY t FROM STDIN';"],
    "breakpoint-spelling": [
        "SELECT '\n-->statement-breakpoint\n';",
        "/* -->statement-breakpoint */ SELECT 1;",
        "-- no statement-breakpoint is needed here\nSELECT 1;",
    ],
    "empty-chunk": [f"SELECT 1;{CUT}-- words\nSELECT 2;\n"],
    "transaction-control": [
        "SELECT 'COMMIT;';",
        "DO $$ BEGIN PERFORM 'COMMIT;'; -- COMMIT;\nEND $$;",
        "CREATE PROCEDURE p() LANGUAGE plpgsql AS $$ BEGIN COMMIT; END $$;",
        "CREATE FUNCTION f() RETURNS int BEGIN ATOMIC SELECT 1; END;",
        "BEGIN;\nSELECT 1;\nCOMMIT;",
        "SELECT 1;\nSTART TRANSACTION ISOLATION LEVEL SERIALIZABLE;\nSELECT 1;\nEND;",
        f"COMMIT;{CUT}SELECT 1;{CUT}BEGIN;",
        f"BEGIN;{CUT}SELECT 1;{CUT}COMMIT AND CHAIN;{CUT}SELECT 2;{CUT}COMMIT;",
        "DO $$ BEGIN INSERT INTO t VALUES (1) ON CONFLICT DO NOTHING; END $$;",
    ],
    "transaction-scope": [
        *(
            f"{scope}{CUT}UPDATE t SET a = 1;{CUT}SELECT 1;"
            for scope in (
                "SET LOCAL lock_timeout = '1s';",
                "SET CONSTRAINTS ALL DEFERRED;",
                "LOCK TABLE t;",
                "SAVEPOINT a;",
                "DECLARE c CURSOR FOR SELECT 1;",
                "SELECT set_config('a.b', 'c', true);",
                "SET TRANSACTION READ WRITE;",
                "CREATE TEMP TABLE u (a int) ON COMMIT DROP;",
                "SELECT pg_advisory_xact_lock(1);",
            )
        ),
        f"SELECT 1;{CUT}SET LOCAL lock_timeout = DEFAULT;",
        f"BEGIN;{CUT}CREATE TEMP TABLE u ON COMMIT DROP AS SELECT 1;{CUT}SELECT 1;{CUT}COMMIT;{CUT}SELECT 1;",
        f"LOCK TABLE t;{CUT}COMMIT;{CUT}CREATE INDEX CONCURRENTLY i ON t (a);",
    ],
    "enum-value-used": [
        f"ALTER TYPE e ADD VALUE 'x';{CUT}UPDATE t SET e = 'x';",
        f"BEGIN;{CUT}ALTER TYPE e ADD VALUE 'x';{CUT}COMMIT;{CUT}UPDATE t SET e = 'x';",
        "ALTER TYPE e ADD VALUE 'x';\nCOMMIT;\nUPDATE t SET e = 'x';",
        "ALTER TYPE e ADD VALUE 'x';\nUPDATE t SET e = 'y';",
        "UPDATE t SET e = 'x';\nALTER TYPE e ADD VALUE 'x';",
        "CREATE TYPE e AS ENUM ('a');\nALTER TYPE public.e ADD VALUE 'x';\nSELECT 'x'::e;",
        "ALTER TYPE e ADD VALUE 'x';\nDO $$ BEGIN UPDATE t SET e = 'y'; -- 'x'\nEND $$;",
        "ALTER TYPE e ADD VALUE 'x';\nCREATE FUNCTION f() RETURNS e LANGUAGE plpgsql AS $$ BEGIN RETURN 'x'; END $$;",
    ],
    "commits-itself": [
        "CREATE PROCEDURE q() LANGUAGE plpgsql AS $$ BEGIN PERFORM 1; END $$;\nCALL q();",
        f"{PROCEDURE}{CUT}CALL other.p(1);",
        f"{PROCEDURE}{CUT}DROP PROCEDURE p;",
    ],
    "needs-own-chunk": [
        "CREATE INDEX CONCURRENTLY i ON t (a);",
        f"COMMIT;{CUT}CREATE INDEX CONCURRENTLY i ON t (a);{CUT}BEGIN;{CUT}SELECT 1;",
        "BEGIN;\nSELECT 1;\nCOMMIT;\nVACUUM t;",
        "VACUUM t;\nCOMMIT;",
        f"VACUUM t;{CUT}VACUUM t;",
        "ANALYZE t;\nSELECT 1;",
        "CLUSTER t;\nSELECT 1;",
        "DROP INDEX i;\nSELECT 1;",
        "REINDEX TABLE t;\nSELECT 1;",
        "ALTER TABLE t DETACH PARTITION p;\nSELECT 1;",
        "CREATE SUBSCRIPTION s CONNECTION '' PUBLICATION p WITH (connect = false);\nSELECT 1;",
        "DISCARD PLANS;\nSELECT 1;",
    ],
    "concurrently-if-not-exists": ["CREATE TABLE t (a int);\nCREATE INDEX IF NOT EXISTS i ON t (a);"],
    "temporary-object": ["CREATE TEMP TABLE t (a int);\nINSERT INTO t VALUES (1);\nDROP TABLE t;"],
    "session-setting": ["RESET search_path;", "SET search_path TO DEFAULT;", "SHOW search_path;"],
    "drop-table": [f"{TABLE}{CUT}DROP TABLE public.t;", f"CREATE SCHEMA s;{CUT}DROP SCHEMA s;", "DROP INDEX i;"],
    "drop-column": [
        f"{TABLE}{CUT}ALTER TABLE t DROP a;",
        f"ALTER TABLE t ADD b int;{CUT}ALTER TABLE public.t DROP b;",
        f"CREATE TYPE e AS ENUM ();{CUT}DROP TYPE e CASCADE;",
        "DROP TYPE e;",
        "ALTER TABLE t ALTER a DROP DEFAULT, ALTER a DROP NOT NULL;",
    ],
    "rename": [
        f"{TABLE}{CUT}ALTER TABLE t RENAME TO u;{CUT}ALTER TABLE u RENAME a TO b;",
        f"ALTER TABLE t ADD b int;{CUT}ALTER TABLE t RENAME b TO c;",
        "ALTER INDEX i RENAME TO j;",
        "ALTER TABLE t RENAME CONSTRAINT c TO d;",
        f"CREATE TYPE e AS ENUM ('a');{CUT}ALTER TYPE e RENAME VALUE 'a' TO 'b';{CUT}ALTER TYPE e RENAME TO f;",
    ],
    "type-change": [f"{TABLE}{CUT}ALTER TABLE t ALTER a TYPE text;"],
    "not-null": [
        "ALTER TABLE t ADD b int DEFAULT 1 NOT NULL;",
        "ALTER TABLE t ADD b serial NOT NULL;",
        "ALTER TABLE t ADD b int GENERATED ALWAYS AS IDENTITY NOT NULL;",
        "ALTER TABLE t ADD b int GENERATED ALWAYS AS (a + 1) STORED NOT NULL;",
        "ALTER TABLE t ADD b int;",
        f"{TABLE}{CUT}ALTER TABLE t ALTER a SET NOT NULL;",
        f"ALTER TABLE t ADD b int DEFAULT 1;{CUT}ALTER TABLE t ALTER b SET NOT NULL;",
        f"ALTER TABLE t ADD b int;{CUT}ALTER TABLE t ALTER b SET DEFAULT 1;{CUT}ALTER TABLE t ALTER b SET NOT NULL;",
    ],
    "constraint-validated": [
        f"ALTER TABLE t ADD CONSTRAINT c CHECK (a > 0) NOT VALID;{CUT}ALTER TABLE t VALIDATE CONSTRAINT c;",
        "ALTER TABLE t ADD CONSTRAINT f FOREIGN KEY (a) REFERENCES u (a) NOT VALID;",
        "ALTER TABLE t ADD CONSTRAINT u UNIQUE USING INDEX i;",
        f"{TABLE}{CUT}ALTER TABLE t ADD UNIQUE (a), ADD FOREIGN KEY (a) REFERENCES u (a);",
    ],
    "index-not-concurrent": [
        f"{TABLE}{CUT}CREATE INDEX i ON public.t (a);",
        f"CREATE SCHEMA s;{CUT}CREATE TABLE s.t AS SELECT 1 AS a;{CUT}CREATE INDEX i ON s.t (a);",
        f"CREATE MATERIALIZED VIEW v AS SELECT 1 AS a;{CUT}CREATE INDEX i ON v (a);",
    ],
}
#: Rules of the folder, and those that the profile release does not have.
ELSEWHERE = {
    "journal-format", "journal-file", "unlisted-file", "duplicate-tag", "journal-order", "journal-index", "file-name",
    "same-bytes", "enum-value-portability", "local-setting",
}  # fmt: skip


@pytest.mark.parametrize(
    ("rule", "sql", "lines"), [(rule, *case) for rule, cases in BAD.items() for case in cases], ids=repr
)
def test_invalid_sql(lint_one: LintOne, rule: str, sql: str | bytes, lines: list[int]) -> None:
    """The rule is reported on the expected lines, and no other rule is."""
    assert lint_one(sql) == [(rule, line) for line in lines]


@pytest.mark.parametrize(("rule", "sql"), [(rule, sql) for rule, cases in GOOD.items() for sql in cases], ids=repr)
def test_valid_sql(lint_one: LintOne, rule: str, sql: str | bytes) -> None:
    """Similar valid SQL has no findings."""
    assert lint_one(sql) == []


def test_every_rule_has_a_case() -> None:
    """Every rule has a test case here, or with the folder, the profiles, the enum values or the allow comments."""
    assert set(BAD) | ELSEWHERE | set(META_RULES) == set(Rule)
    assert set(GOOD) <= set(BAD)


def test_syntax_error_does_not_hide_other_chunks(lint_one: LintOne) -> None:
    """A syntax error in one chunk is reported together with the findings of the other chunks."""
    assert lint_one(f"DROP TABLE t;{CUT}SELEC;{CUT}ROLLBACK;") == [
        ("drop-table", 1), ("syntax-error", 3), ("transaction-control", 5)
    ]  # fmt: skip
