from __future__ import annotations

import pytest

from mosaic_gateway.migrations.nontransactional.statements import NontransactionalStatement as Statement
from mosaic_gateway.migrations.nontransactional.statements import StatementKind as Kind
from mosaic_gateway.migrations.nontransactional.statements import classify


def index(name: str, table: str) -> Statement:
    """Return the expected classification of CREATE INDEX."""
    return Statement(kind=Kind.CREATE_INDEX, what="index", name=name, table=table)


def drop(what: str, name: str) -> Statement:
    """Return the expected classification of DROP."""
    return Statement(kind=Kind.DROP_INDEX if what == "index" else Kind.DROP, what=what, name=name)


TABLE = [
    ("CREATE INDEX CONCURRENTLY i ON t (a)", index('"i"', '"t"')),
    ("create unique index concurrently I on T (a)", index('"i"', '"t"')),
    ('CREATE INDEX CONCURRENTLY "I i" ON "S"."T ""x""" (a)', index('"I i"', '"S"."T ""x"""')),
    ("CREATE INDEX CONCURRENTLY IF NOT EXISTS i ON ONLY s.t USING gin (a)", index('"i"', '"s"."t"')),
    ("CREATE INDEX CONCURRENTLY ON t (a) WHERE a > 0;", index("", '"t"')),
    ("/* why */ CREATE INDEX CONCURRENTLY -- here\n i ON t (a)", index('"i"', '"t"')),
    ("DROP INDEX CONCURRENTLY i", drop("index", '"i"')),
    ("DROP INDEX CONCURRENTLY IF EXISTS s.i", drop("index", '"s"."i"')),
    ("CREATE DATABASE d OWNER app", Statement(kind=Kind.CREATE, what="database", name='"d"')),
    ("CREATE TABLESPACE x LOCATION '/x'", Statement(kind=Kind.CREATE, what="tablespace", name='"x"')),
    (
        "CREATE SUBSCRIPTION x CONNECTION 'host=x' PUBLICATION p",
        Statement(kind=Kind.CREATE, what="subscription", name='"x"'),
    ),
    ("DROP DATABASE IF EXISTS d WITH (FORCE)", drop("database", '"d"')),
    ("DROP TABLESPACE x", drop("tablespace", '"x"')),
    ("DROP SUBSCRIPTION x", drop("subscription", '"x"')),
    (
        "ALTER TABLE IF EXISTS ONLY s.p DETACH PARTITION s.p1 CONCURRENTLY",
        Statement(kind=Kind.DETACH, what="partition", name='"s"."p1"', table='"s"."p"'),
    ),
    ("REINDEX INDEX CONCURRENTLY i", Statement(kind=Kind.REINDEX)),
    ("REINDEX (VERBOSE) DATABASE d", Statement(kind=Kind.REINDEX)),
    *((sql, Statement(kind=Kind.RERUN)) for sql in (
        "VACUUM", "VACUUM (FULL) t;", "ANALYZE t", "CLUSTER", "DISCARD ALL", "CHECKPOINT",
        "ALTER SYSTEM SET work_mem = '1MB'", "ALTER DATABASE d SET TABLESPACE x",
        "ALTER SUBSCRIPTION x REFRESH PUBLICATION",
    )),
    *((sql, Statement(kind=Kind.COMMITS)) for sql in ("CALL p()", "DO $$ BEGIN COMMIT; END $$")),
    *((sql, Statement(kind=Kind.UNKNOWN)) for sql in (
        "CREATE TABLE t (n integer)", "DROP TABLE t", "ALTER TABLE t ADD COLUMN n integer",
        "ALTER TYPE e ADD VALUE 'x'", "SELECT 1", "", "-- nothing",
        "CREATE INDEX CONCURRENTLY i ON t (a); SELECT 1", "VACUUM; VACUUM", "CREATE INDEX CONCURRENTLY i ON t ('",
        "CREATE", "DROP", "ALTER", "ALTER TABLE t", "DROP INDEX CONCURRENTLY a, b", "DROP DATABASE",
        "CREATE INDEX CONCURRENTLY",
    )),
]  # fmt: skip


@pytest.mark.parametrize(("sql", "expected"), TABLE, ids=[sql for sql, _ in TABLE])
def test_classification(sql: str, expected: Statement) -> None:
    """Names are quoted and complete; a statement whose effect cannot be detected is unknown."""
    assert classify(sql) == expected
