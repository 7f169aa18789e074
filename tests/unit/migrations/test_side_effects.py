from __future__ import annotations

import pytest

from mosaic_gateway.migrations.lexer import lex
from mosaic_gateway.migrations.side_effects import lasting, temporary_names

TABLE = "CREATE TEMP TABLE t (n integer, s varchar(10) CHECK (n > 0), UNIQUE (n))"
GONE = [
    (TABLE,),
    ("SET search_path = s", TABLE),
    ("SET search_path = s; CREATE TEMP TABLE t (n integer)",),
    (TABLE, "INSERT INTO t (n) SELECT count(*) FROM users", "UPDATE t SET n = 1", "DELETE FROM ONLY t WHERE n IN (1)"),
    (TABLE, "CREATE UNIQUE INDEX i ON t (n)", "ANALYZE t"),
    ("CREATE TEMP TABLE IF NOT EXISTS t AS SELECT lower(name) FROM users", "INSERT INTO pg_temp.t VALUES ('a')"),
    ('CREATE TEMPORARY VIEW "T v" AS SELECT 1', "DECLARE c CURSOR WITH HOLD FOR SELECT 1", "PREPARE p AS SELECT 1"),
]
STAYS = [
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
    ((TABLE, "WITH a AS (SELECT 1 AS n) INSERT INTO t SELECT n FROM a"), 1),
    ((TABLE, "DROP TABLE t"), 1),
    (("DO $$ BEGIN CREATE TEMP TABLE t AS SELECT 1; END $$",), 0),
]


@pytest.mark.parametrize("chunks", GONE)
def test_what_is_gone_with_the_session(chunks: tuple[str, ...]) -> None:
    """Temporary tables, changes of them, and settings: a file that did no more may begin again."""
    assert lasting([lex(chunk).statements() for chunk in chunks]) is None


@pytest.mark.parametrize(("chunks", "which"), STAYS)
def test_what_may_stay(chunks: tuple[str, ...], which: int | None) -> None:
    """A change of another table, in a WITH too, and whatever a function that is not known may do."""
    assert lasting([lex(chunk).statements() for chunk in chunks]) == which


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
    """None where they cannot be told: then everything may need them."""
    assert temporary_names(lex(sql).statements()) == names
