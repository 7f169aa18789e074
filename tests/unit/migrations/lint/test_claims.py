"""Statements about PostgreSQL on which the rules are based, verified on a real server."""

from __future__ import annotations

import psycopg
import pytest
from pglast.parser import parse_sql
from tests.unit.migrations.lint.test_enum_values import ADD, OTHER_USES, SCHEMA, USES

from mosaic_gateway.migrations.lint.nontransactional import outside_of_transactions

TABLES = (
    "CREATE TABLE t (a int) PARTITION BY LIST (a)", "CREATE TABLE p PARTITION OF t FOR VALUES IN (1)",
    "CREATE TABLE u (a int)", "CREATE INDEX ui ON u (a)", "CREATE TYPE e AS ENUM ('a')", "CREATE TABLE w (v e)",
)  # fmt: skip
OUTSIDE = [
    "CREATE INDEX CONCURRENTLY i ON u (a)", "DROP INDEX CONCURRENTLY ui", "REINDEX TABLE CONCURRENTLY u",
    "REINDEX (CONCURRENTLY) INDEX ui", "REINDEX SCHEMA public", "REINDEX DATABASE", "REINDEX SYSTEM", "VACUUM u",
    "ALTER SYSTEM SET work_mem = '8MB'", "CREATE DATABASE d", "DROP DATABASE IF EXISTS d",
    "CREATE TABLESPACE s LOCATION '/nonexistent'", "DROP TABLESPACE IF EXISTS s",
    "CREATE SUBSCRIPTION s CONNECTION 'dbname=x' PUBLICATION p", "ALTER TABLE t DETACH PARTITION p CONCURRENTLY",
    "CLUSTER", "DISCARD ALL",
]  # fmt: skip
INSIDE = [
    "CREATE INDEX i ON u (a)", "DROP INDEX ui", "REINDEX TABLE u", "ANALYZE u", "CLUSTER u USING ui", "DISCARD PLANS",
    "ALTER TABLE t DETACH PARTITION p", "DISCARD TEMP", "ALTER TYPE e ADD VALUE 'z'",
    "CREATE SUBSCRIPTION s CONNECTION 'dbname=x' PUBLICATION p WITH (connect = false)",
]  # fmt: skip
#: A chunk as the runner sends it, and the SQLSTATE with which PostgreSQL refuses it.
REFUSED = [
    ("ALTER TYPE e ADD VALUE 'x'; INSERT INTO w VALUES ('x')", "55P04"),
    ("ALTER TYPE e ADD VALUE 'x'; DO $$ BEGIN INSERT INTO w VALUES ('x'); END $$", "55P04"),
    ("ALTER TYPE e ADD VALUE 'x'; CREATE FUNCTION f() RETURNS e LANGUAGE sql AS $$ SELECT 'x'::e $$", "55P04"),
    ("DO $$ BEGIN COMMIT; END $$", "2D000"),
    ("SET TRANSACTION ISOLATION LEVEL SERIALIZABLE", "25001"),
]
ACCEPTED = [
    "CREATE TYPE n AS ENUM ('a'); ALTER TYPE n ADD VALUE 'x'; SELECT 'x'::n",
    "ALTER TYPE e ADD VALUE 'x'; CREATE FUNCTION f() RETURNS e LANGUAGE plpgsql AS $$ BEGIN RETURN 'x'; END $$",
]


@pytest.fixture
def prepared(database: str) -> str:
    """Return the conninfo of a database that has `TABLES`."""
    with psycopg.connect(database, autocommit=True) as connection:
        for statement in TABLES:
            connection.execute(statement.encode())
    return database


def refusal(conninfo: str, chunk: str) -> str | None:
    """Return the SQLSTATE with which *chunk* is refused in a transaction that has already written, else None."""
    return outcome(conninfo, f"BEGIN; UPDATE u SET a = 1; {chunk}; ROLLBACK")


def outcome(conninfo: str, statements: str) -> str | None:
    """Return the SQLSTATE of the error in *statements*, None if there is none."""
    with psycopg.connect(conninfo, autocommit=True) as connection:
        try:
            connection.execute(statements.encode())
        except psycopg.Error as error:
            return error.sqlstate
    return None


def test_outside_of_transactions(prepared: str) -> None:
    """In a transaction block PostgreSQL refuses exactly the statements that the rule reports."""
    for statement in (*OUTSIDE, *INSIDE):
        (parsed,) = parse_sql(statement)
        assert parsed.stmt is not None
        claimed = outside_of_transactions(parsed.stmt) is not None
        assert (refusal(prepared, statement) == "25001") == claimed == (statement in OUTSIDE), statement


def test_refused_chunks(prepared: str) -> None:
    """PostgreSQL refuses the chunks with the SQLSTATE that the rules name, and accepts similar valid chunks."""
    for chunk, sqlstate in REFUSED:
        assert refusal(prepared, chunk) == sqlstate, chunk
    for chunk in ACCEPTED:
        assert refusal(prepared, chunk) is None, chunk


def test_uses_of_an_enum_value(database: str) -> None:
    """PostgreSQL refuses exactly the uses of a word that the rule takes for uses of the added value."""
    rows = "INSERT INTO t (id, s) VALUES (1, 'a'); INSERT INTO u VALUES ('a')"
    with psycopg.connect(database, autocommit=True) as connection:
        connection.execute(f"{SCHEMA} ALTER TABLE t ADD UNIQUE (id); {rows}".encode())
    for use in (*USES, *OTHER_USES):
        assert outcome(database, f"BEGIN; {ADD} {use} ROLLBACK") == ("55P04" if use in USES else None), use
