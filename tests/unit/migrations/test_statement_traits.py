from __future__ import annotations

import pytest

from mosaic_gateway.migrations.statement_traits import traits_of

PLAIN = [
    "CREATE TABLE t (n integer); INSERT INTO t VALUES (1);",
    "UPDATE t SET n = 1",
    "INSERT INTO t VALUES ('BEGIN; COMMIT')",
    "CREATE FUNCTION f() RETURNS integer LANGUAGE sql BEGIN ATOMIC SELECT 1; SELECT 2; END",
    "CREATE FUNCTION f() RETURNS integer LANGUAGE sql BEGIN ATOMIC SELECT CASE WHEN true THEN 1 END; SELECT 2; END",
    "CREATE FUNCTION f() RETURNS integer LANGUAGE plpgsql SET search_path = s AS 'BEGIN RETURN 1; END'",
    "ALTER TABLE t ALTER COLUMN n SET DEFAULT 1",
    "ALTER DATABASE d SET search_path = s",
    "CREATE RULE r AS ON INSERT TO t DO ALSO (INSERT INTO u VALUES (1); INSERT INTO v VALUES (2))",
    "CREATE TABLE temp (n integer)",
    "CREATE TABLE temporary_things (n integer)",
    "INSERT INTO temporary_things VALUES (1)",
    "INSERT INTO temp VALUES (1)",
    "-- nothing",
    "",
    "DO $$ BEGIN CREATE TYPE e AS ENUM ('a'); EXCEPTION WHEN duplicate_object THEN null; END $$",
    "DO $$ BEGIN ALTER TABLE t ADD CONSTRAINT f FOREIGN KEY (a) REFERENCES public.u(id); END $$",
    "DO $$ BEGIN UPDATE t SET n = 1; CREATE INDEX i ON t (n); END $$",
]
#: They call functions, or might: what these set is recorded after them.
QUERIES = [
    "SELECT 1",
    "SELECT 1;",
    "SELECT $$ COMMIT; $$",
    "SELECT 1 -- ; ROLLBACK",
    "/* COMMIT; */ SELECT 1",
    'SELECT "commit" FROM t',
    "WITH a AS (SELECT 1) INSERT INTO temp SELECT * FROM a",
    "SELECT 1 AS n INTO lasting",
    "SELECT count(*), pg_catalog.lower(max(b)) FROM t WHERE a IN (1, 2) AND EXISTS (SELECT 1)",
    "WITH a (n) AS (VALUES (1)) INSERT INTO t (n) SELECT n FROM a",
    "DO $$ BEGIN PERFORM 1; END $$",
    "DO $$ DECLARE temp integer; BEGIN temp := 1; END $$",
]
CONTROL = [
    ("BEGIN", "begin"),
    ("begin;", "begin"),
    ("START TRANSACTION", "start"),
    ("COMMIT", "commit"),
    ("SELECT 1; END", "end"),
    ("SELECT 1; ROLLBACK;", "rollback"),
    ("ABORT", "abort"),
    ("SAVEPOINT a", "savepoint"),
    ("RELEASE a", "release"),
    ("PREPARE TRANSACTION 'x'", "prepare"),
    ("/* first */ COMMIT", "commit"),
    ("-- first\nCOMMIT", "commit"),
    (";;COMMIT", "commit"),
    ("SELECT $$a$$; COMMIT", "commit"),
    ("SET SESSION AUTHORIZATION app", "set session authorization"),
]
SETTINGS = [
    "SET search_path = s",
    "set LOCAL lock_timeout = 1",
    "SET ROLE app",
    "RESET ALL",
    "DISCARD ALL",
    "SELECT 1; SET my.flag = 'x'",
    "SELECT set_config('my.flag', 'x', false)",
    "SELECT pg_catalog.SET_CONFIG('my.flag', 'x', false)",
    "DO $$ BEGIN SET search_path = s; END $$",
    "DO $$ BEGIN IF true THEN RESET ROLE; END IF; END $$",
    "DO LANGUAGE plpgsql 'BEGIN SET ROLE app; END'",
]
CALLS = [
    "SELECT choose('app')",
    "SELECT pg_catalog.choose('app')",
    "SELECT app.count('x')",
    'SELECT "count"(1)',
    "WITH a AS (SELECT f() AS n) SELECT n FROM a",
    *QUERIES,
    "CALL choose('app')",
    "EXECUTE chosen",
    "DO $$ BEGIN PERFORM choose('app'); END $$",
    "DO $$ BEGIN EXECUTE 'SET ROLE a'; END $$",
    "DO $$ DECLARE n integer := choose('app'); BEGIN END $$",
    "DO LANGUAGE plpython3u 'plpy.execute(1)'",
]
TEMPORARY = [
    "CREATE TEMP TABLE t (n integer)",
    "CREATE TEMPORARY VIEW v AS SELECT 1",
    "CREATE LOCAL TEMP TABLE t (n integer)",
    "CREATE OR REPLACE TEMP VIEW v AS SELECT 1",
    "CREATE UNLOGGED TABLE u (n integer); CREATE TEMP SEQUENCE s",
    "DECLARE c CURSOR WITH HOLD FOR SELECT 1",
    "PREPARE p AS SELECT 1",
    "CREATE TABLE pg_temp.t (n integer)",
    "SELECT 1 AS n INTO TEMP t",
    "WITH a AS (SELECT 1 AS n) SELECT n INTO LOCAL TEMPORARY TABLE t FROM a",
    "CREATE FUNCTION pg_temp.f() RETURNS integer LANGUAGE sql AS 'SELECT 1'",
    "DO $$ BEGIN CREATE TEMP TABLE t AS SELECT 1; END $$",
    "DO $$ BEGIN SELECT 1 AS n INTO TEMP t; END $$",
]
OPEN = ["SELECT 'a", 'SELECT "a', "SELECT $$a", "SELECT $x$ a $$", "SELECT 1 /* /* */", "SELECT E'\\'", "SELECT U&'a"]


@pytest.mark.parametrize("sql", QUERIES)
def test_words_in_queries_are_not_what_they_look_like(sql: str) -> None:
    """No text, comment, name or table of a query is taken for transaction control or a temporary object."""
    traits = traits_of(sql)
    assert (traits.closed, traits.control, traits.temporary) == (True, None, False)


@pytest.mark.parametrize("sql", PLAIN)
def test_plain_statements_may_share_a_message(sql: str) -> None:
    """Words in string constants, comments, names and function bodies are ignored."""
    traits = traits_of(sql)
    assert traits.plain
    assert not traits.temporary
    assert traits.control is None


@pytest.mark.parametrize(("sql", "word"), CONTROL)
def test_transaction_control_is_found(sql: str, word: str) -> None:
    """It is found anywhere in the chunk and after any other statement."""
    assert traits_of(sql).control == word
    assert not traits_of(sql).plain


@pytest.mark.parametrize("sql", SETTINGS)
def test_settings_are_found(sql: str) -> None:
    """SET in all its forms, and set_config."""
    assert traits_of(sql).sets_session
    assert not traits_of(sql).plain


@pytest.mark.parametrize("sql", CALLS)
def test_settings_are_saved_after_calls_that_may_change_them(sql: str) -> None:
    """A call of an unknown function does not count as SET, but settings are saved after it."""
    traits = traits_of(sql)
    assert (traits.captures, traits.sets_session, traits.plain) == (True, False, False)


@pytest.mark.parametrize("sql", TEMPORARY)
def test_temporary_objects_are_found(sql: str) -> None:
    """Objects that end with the session are found."""
    assert traits_of(sql).temporary
    assert not traits_of(sql).plain


@pytest.mark.parametrize("sql", OPEN)
def test_unterminated_chunks_are_found(sql: str) -> None:
    """A chunk that would include the text after it is sent alone."""
    assert not traits_of(sql).closed
    assert not traits_of(sql).plain
