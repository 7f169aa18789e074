from __future__ import annotations

import pytest

from mosaic_gateway.migrations.statement_traits import traits_of
from mosaic_gateway.migrations.transaction_control import TransactionModes

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
REFUSED = [
    ("SELECT 1; ROLLBACK;", "rollback"),
    ("ROLLBACK WORK", "rollback"),
    ("ROLLBACK AND CHAIN", "rollback"),
    ("ABORT", "abort"),
    ("PREPARE TRANSACTION 'x'", "prepare transaction"),
    ("COMMIT PREPARED 'x'", "commit prepared"),
    ("ROLLBACK PREPARED 'x'", "rollback"),
    ("/* first */ ABORT", "abort"),
    (";;ROLLBACK", "rollback"),
    ("SELECT $$a$$; ROLLBACK", "rollback"),
    ("SET SESSION AUTHORIZATION app", "set session authorization"),
    ("SET LOCAL SESSION AUTHORIZATION app", "set session authorization"),
]
BEGINS = [
    ("BEGIN", TransactionModes()),
    ("begin;", TransactionModes()),
    ("/* first */ BEGIN WORK; SELECT 1", TransactionModes()),
    ("START TRANSACTION", TransactionModes()),
    ("BEGIN TRANSACTION ISOLATION LEVEL SERIALIZABLE, READ ONLY, DEFERRABLE;",
     TransactionModes(isolation="SERIALIZABLE", read_only=True, deferrable=True)),
    ("START TRANSACTION READ WRITE ISOLATION LEVEL REPEATABLE READ",
     TransactionModes(isolation="REPEATABLE READ", read_only=False)),
    ("BEGIN NOT DEFERRABLE", TransactionModes(deferrable=False)),
    ("BEGIN nonsense", None),
    ("BEGIN READ ONLY,", None),
    ("BEGIN ISOLATION LEVEL none", None),
    ("DO $$ BEGIN END $$", None),
    ('SELECT "begin"', None),
]  # fmt: skip
ENDS = [
    ("COMMIT", False),
    ("END;", False),
    ("SELECT 1; COMMIT WORK", False),
    ("END TRANSACTION AND NO CHAIN", False),
    ("COMMIT AND CHAIN;", True),
    ("COMMIT nonsense", None),
    ("SELECT 'COMMIT'", None),
    ("-- COMMIT", None),
    ("CREATE FUNCTION f() RETURNS integer LANGUAGE sql BEGIN ATOMIC SELECT 1; END", None),
]
#: Statements whose effect lasts until their transaction ends.
SCOPED = [
    ("SET LOCAL search_path = s", "SET LOCAL"),
    ("SELECT 1; set local my.flag = 'x'", "SET LOCAL"),
    ('SET LOCAL "Weird"."x" = 1', "SET LOCAL"),
    ("SET TRANSACTION READ ONLY", "SET TRANSACTION"),
    ("SET CONSTRAINTS ALL DEFERRED", "SET CONSTRAINTS"),
    ("LOCK t", "LOCK"),
    ("LOCK TABLE ONLY t IN SHARE MODE", "LOCK"),
    ("SAVEPOINT a", "SAVEPOINT"),
    ("RELEASE SAVEPOINT a", "RELEASE"),
    ("ROLLBACK TO a", "ROLLBACK TO"),
    ("ROLLBACK WORK TO SAVEPOINT a", "ROLLBACK TO"),
    ("DECLARE c CURSOR FOR SELECT 1", "DECLARE CURSOR"),
    ("CREATE TEMP TABLE t (n integer) ON COMMIT DROP", "CREATE TEMP … ON COMMIT DROP"),
    ("CREATE TEMPORARY TABLE t ON COMMIT DELETE ROWS AS SELECT 1", "CREATE TEMP … ON COMMIT DELETE ROWS"),
    ("SELECT pg_advisory_xact_lock(1)", "pg_advisory_xact_lock"),
    ("SELECT pg_catalog.pg_try_advisory_xact_lock_shared(1, 2)", "pg_try_advisory_xact_lock_shared"),
    ('SELECT "pg_advisory_xact_lock"(1)', "pg_advisory_xact_lock"),
    ("SELECT set_config('search_path', 's', true)", "set_config(…, true)"),
    ("SELECT pg_catalog.SET_CONFIG('a.b', f(1, 2), true)", "set_config(…, true)"),
    ("SELECT set_config('a.b', 'x', 1 > 0)", "set_config(…, true)"),
    ("SELECT set_config('a.b', 'x', 'false')", "set_config(…, true)"),
    ("SELECT set_config(setting_name => 'a.b', new_value => 'x', is_local => true)", "set_config(…, true)"),
    ("SELECT * FROM t FOR UPDATE", "SELECT … FOR UPDATE"),
    ("SELECT * FROM t FOR NO KEY UPDATE OF t NOWAIT", "SELECT … FOR UPDATE"),
    ("DO $$ BEGIN SET LOCAL search_path = s; END $$", "SET LOCAL"),
    ("DO $$ BEGIN IF true THEN LOCK TABLE t; END IF; END $$", "LOCK"),
    ("DO $$ BEGIN PERFORM set_config('search_path', 's', true); END $$", "set_config(…, true)"),
    ("DO $$ BEGIN EXECUTE 'SET LOCAL search_path = s'; END $$", "SET LOCAL"),
    ("DO $$ BEGIN EXECUTE format('SELECT pg_advisory_xact_lock(%s)', 1); END $$", "pg_advisory_xact_lock"),
]
UNSCOPED = [
    "SELECT 'SET LOCAL a = 1'",
    "-- SET LOCAL a = 1\nSELECT 1",
    "UPDATE t SET local = 1",
    "UPDATE t SET local = local + 1, lock = 2",
    "SELECT lock, savepoint FROM t",
    "CREATE FUNCTION f() RETURNS void LANGUAGE plpgsql AS $$ BEGIN SET LOCAL a.b = 'x'; LOCK TABLE t; END $$",
    "CREATE FUNCTION f() RETURNS void LANGUAGE sql SET search_path = s AS 'SELECT pg_advisory_xact_lock(1)'",
    "SELECT set_config('search_path', 's', false)",
    "SELECT set_config(setting_name => 'a.b', new_value => 'x', is_local => false)",
    "SELECT pg_advisory_lock(1)",
    "DECLARE c CURSOR WITH HOLD FOR SELECT 1",
    "CREATE TEMP TABLE t (n integer) ON COMMIT PRESERVE ROWS",
    "SET SESSION search_path = s",
    "SET TIME ZONE 'UTC'",
    "DO $$ DECLARE c CURSOR FOR SELECT 1; BEGIN END $$",
    "DO $$ DECLARE lock integer; BEGIN lock := 1; END $$",
    "CREATE TABLE t (n integer); COMMENT ON TABLE t IS 'LOCK it'",
    "SELECT extract(epoch FROM now())",
]
OUTSIDE = [
    ("CREATE INDEX CONCURRENTLY i ON t (a)", "CREATE INDEX CONCURRENTLY"),
    ("CREATE UNIQUE INDEX CONCURRENTLY ON t (a)", "CREATE INDEX CONCURRENTLY"),
    ("SELECT 1; DROP INDEX CONCURRENTLY i", "DROP INDEX CONCURRENTLY"),
    ("REINDEX TABLE CONCURRENTLY t", "REINDEX CONCURRENTLY"),
    ("REINDEX (VERBOSE, CONCURRENTLY) TABLE t", "REINDEX CONCURRENTLY"),
    ("REINDEX SCHEMA s", "REINDEX SCHEMA"),
    ("VACUUM t", "VACUUM"),
    ("ALTER SYSTEM SET work_mem = 1", "ALTER SYSTEM"),
    ("CREATE DATABASE d", "CREATE DATABASE"),
    ("DROP TABLESPACE x", "DROP TABLESPACE"),
    ("ALTER TABLE p DETACH PARTITION q CONCURRENTLY", "DETACH PARTITION CONCURRENTLY"),
    ("DISCARD ALL", "DISCARD ALL"),
    ("DO $$ BEGIN INSERT INTO t VALUES (1); COMMIT; END $$", "a DO block that commits"),
    ("CREATE INDEX concurrently_i ON t (a)", None),
    ("REINDEX TABLE t", None),
    ("CLUSTER t", None),
    ("DISCARD TEMP", None),
    ("COMMENT ON TABLE t IS 'VACUUM'", None),
    ("CREATE PROCEDURE p() LANGUAGE plpgsql AS $$ BEGIN COMMIT; END $$", None),
]
SETTINGS = [
    "SET search_path = s",
    "SET SESSION CHARACTERISTICS AS TRANSACTION READ ONLY",
    "SET LOCAL a.b = 'x'; SET a.c = 'x'",
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
    "CREATE TEMP TABLE t (n integer) ON COMMIT DELETE ROWS",
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
    assert (traits.closed, traits.refused, traits.temporary) == (True, None, False)
    assert (traits.begins, traits.ends, traits.scope, traits.outside) == (None, None, None, None)


@pytest.mark.parametrize("sql", PLAIN)
def test_plain_statements_may_share_a_message(sql: str) -> None:
    """Words in string constants, comments, names and function bodies are ignored."""
    traits = traits_of(sql)
    assert traits.plain
    assert not traits.temporary
    assert (traits.refused, traits.begins, traits.ends, traits.scope, traits.outside) == (None, None, None, None, None)


@pytest.mark.parametrize(("sql", "word"), REFUSED)
def test_what_no_migration_may_contain_is_found(sql: str, word: str) -> None:
    """It is found anywhere in the chunk and after any other statement, with its position."""
    refused = traits_of(sql).refused
    assert refused is not None
    assert refused.name == word
    assert sql[refused.position :].lower().startswith(word.split(maxsplit=1)[0])
    assert not traits_of(sql).plain


@pytest.mark.parametrize(("sql", "modes"), BEGINS)
def test_the_beginning_of_a_transaction_is_found(sql: str, modes: TransactionModes | None) -> None:
    """BEGIN in all its forms is found with its modes; what is not valid is left to the server."""
    begins = traits_of(sql).begins
    assert (None if begins is None else begins.modes) == modes
    assert begins is None or ";" not in sql[slice(*begins.span)]


@pytest.mark.parametrize(("sql", "chain"), ENDS)
def test_the_end_of_a_transaction_is_found(sql: str, chain: bool | None) -> None:
    """COMMIT and END in all their forms are found; words in bodies, strings and comments are not."""
    ends = traits_of(sql).ends
    assert (None if ends is None else ends.chain) is chain


@pytest.mark.parametrize(("sql", "name"), SCOPED)
def test_what_acts_until_the_transaction_ends_is_found(sql: str, name: str) -> None:
    """Also in a DO block and in its dynamic SQL; it does not change the session."""
    scope = traits_of(sql).scope
    assert scope is not None
    assert scope.name == name
    assert traits_of(sql).refused is None


@pytest.mark.parametrize("sql", UNSCOPED)
def test_what_outlives_its_transaction_needs_none(sql: str) -> None:
    """Words in strings, comments, names and function bodies are not constructs."""
    assert traits_of(sql).scope is None


@pytest.mark.parametrize(("sql", "name"), OUTSIDE)
def test_what_a_transaction_forbids_is_found(sql: str, name: str | None) -> None:
    """Statements that PostgreSQL refuses in a transaction block are named."""
    outside = traits_of(sql).outside
    assert (None if outside is None else outside.name) == name


def test_a_setting_of_the_transaction_does_not_change_the_session() -> None:
    """Nothing is saved after it, so that it may share a message and a shared session."""
    for sql in ("SET LOCAL a.b = 'x'", "SET CONSTRAINTS ALL DEFERRED", "CREATE TEMP TABLE t (n int) ON COMMIT DROP"):
        assert traits_of(sql).plain
    traits = traits_of("SELECT set_config('a.b', 'x', true)")
    assert (traits.sets_session, traits.local) == (False, frozenset({"a.b"}))
    assert traits_of("SELECT set_config(f(), 'x', true)").local is None
    assert traits_of("SET LOCAL TIME ZONE 'UTC'; SET LOCAL my.flag = 1").local == frozenset({"timezone", "my.flag"})


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
