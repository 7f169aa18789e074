from __future__ import annotations

import pytest

from mosaic_gateway.migrations.lexer import lex
from mosaic_gateway.migrations.side_effects import first_persistent, temporary_names

TABLE = "CREATE TEMP TABLE t (n integer, s varchar(10) CHECK (n > 0), UNIQUE (n))"
TEMPORARY = [
    (TABLE,),
    ("SET search_path = s", TABLE),
    ("SET search_path = s; CREATE TEMP TABLE t (n integer)",),
    (TABLE, "INSERT INTO t (n) SELECT id FROM users", "UPDATE t SET n = 1", "DELETE FROM ONLY t WHERE n IN (1)"),
    (TABLE, "CREATE UNIQUE INDEX i ON t (n)", "ANALYZE t"),
    ("CREATE TEMP TABLE IF NOT EXISTS t AS SELECT name FROM users", "INSERT INTO pg_temp.t VALUES ('a')"),
    ('CREATE TEMPORARY VIEW "T v" AS SELECT 1', "DECLARE c CURSOR WITH HOLD FOR SELECT 1", "PREPARE p AS SELECT 1"),
]
PERSISTENT = [
    ((), None),
    (("",), 0),
    (("SELECT 1",), 0),
    (("INSERT INTO u VALUES (1)",), 0),
    (("CREATE TEMP TABLE t (n integer); INSERT INTO u VALUES (1)",), 0),
    ((TABLE, "INSERT INTO public.t VALUES (1)"), 1),
    ((TABLE, "INSERT INTO t SELECT f() FROM users"), 1),
    (("INSERT INTO t VALUES (1)", TABLE), 0),
    (("SET search_path = public, pg_temp", TABLE), 0),
    (("CREATE TEMP TABLE t AS WITH gone AS (DELETE FROM users RETURNING *) SELECT * FROM gone",), 0),
    (("CREATE TEMP TABLE t AS SELECT nextval('s')",), 0),
    (("CREATE TEMP TABLE t AS SELECT lower(name) FROM users",), 0),
    ((TABLE, "INSERT INTO t (n) SELECT count(*) FROM users"), 1),
    ((TABLE, "DELETE FROM t WHERE app.f(n)"), 1),
    ((TABLE, 'UPDATE t SET n = "f"(1)'), 1),
    ((TABLE, "WITH a AS (SELECT 1 AS n) INSERT INTO t SELECT n FROM a"), 1),
    ((TABLE, "DROP TABLE t"), 1),
    (("DO $$ BEGIN CREATE TEMP TABLE t AS SELECT 1; END $$",), 0),
]


@pytest.mark.parametrize("chunks", TEMPORARY)
def test_effects_that_end_with_the_session(chunks: tuple[str, ...]) -> None:
    """Temporary tables, changes of them, and settings: a file with no other effects may be run again."""
    assert first_persistent([lex(chunk).statements() for chunk in chunks]) is None


@pytest.mark.parametrize(("chunks", "index"), PERSISTENT)
def test_persistent_effects(chunks: tuple[str, ...], index: int | None) -> None:
    """Changes of another table, also in WITH, and calls of unknown functions."""
    assert first_persistent([lex(chunk).statements() for chunk in chunks]) == index


@pytest.mark.parametrize(
    ("sql", "names"),
    [
        ("CREATE TEMP TABLE t (n integer)", {"t"}),
        (
            'CREATE TEMP TABLE IF NOT EXISTS "T" AS SELECT * FROM exists; DECLARE c CURSOR WITH HOLD FOR SELECT 1',
            {"T", "c"},
        ),
        ("SELECT 1; CREATE TABLE u (n integer)", set()),
        ("SELECT 1 AS n INTO TEMP t", None),
        ("DO $$ BEGIN CREATE TEMP TABLE t AS SELECT 1; END $$", None),
        ("CREATE FUNCTION pg_temp.f() RETURNS integer LANGUAGE sql AS 'SELECT 1'", None),
    ],
)
def test_the_names_of_temporary_objects(sql: str, names: set[str] | None) -> None:
    """The result is None if the names cannot be determined."""
    assert temporary_names(lex(sql).statements()) == names
