"""The runner on each PostgreSQL version of this machine: the embedded one, Debian's, and one from a wheel."""

from __future__ import annotations

from collections.abc import Iterator

import psycopg
import pytest
from tests.support.postgres_server import SYSTEM_SERVERS, PostgresServer, RunServer, settings_for

from mosaic_gateway.migrations import ledger, progress
from mosaic_gateway.migrations.bundle import LEDGERS, Bundle
from mosaic_gateway.migrations.events import Event, StatementRecovered
from mosaic_gateway.migrations.failure import StatementFailedError
from mosaic_gateway.migrations.model import Migration
from mosaic_gateway.migrations.parse import file_hash, split
from mosaic_gateway.migrations.runner import migrate, read_plan

MARK = "\n--> statement-breakpoint\n"
FILES = (
    ("CREATE TABLE t (a integer PRIMARY KEY, b text)", "INSERT INTO t VALUES (1, 'x'), (2, 'y')"),
    ("CREATE TYPE mood AS ENUM ('calm')", "ALTER TYPE mood ADD VALUE 'wild'", "CREATE TABLE m (m mood DEFAULT 'wild')"),
    ("CREATE SCHEMA s", "SET search_path = s", "SET my.flag = '5'", "CREATE TABLE here (n integer)",
     "INSERT INTO here SELECT current_setting('my.flag')::integer / (SELECT n FROM public.cause)"),
    ("CREATE INDEX CONCURRENTLY t_b ON t (b)", "REINDEX TABLE CONCURRENTLY t", "VACUUM t"),
    ("CREATE TABLE p (n integer) PARTITION BY RANGE (n)",
     "CREATE TABLE p1 PARTITION OF p FOR VALUES FROM (0) TO (10)",
     "ALTER TABLE p DETACH PARTITION p1 CONCURRENTLY", "DROP INDEX CONCURRENTLY t_b"),
    ("DISCARD ALL", "INSERT INTO t VALUES (3, 'z')"),
)  # fmt: skip


def bundle_of(*files: tuple[str, ...]) -> Bundle:
    """Return a bundle with a migration for each tuple of statements."""
    texts = [MARK.join(statements) for statements in files]
    migrations = tuple(
        Migration(tag=f"m{number}", when=number + 1, hash=file_hash(text.encode()), statements=split(text))
        for number, text in enumerate(texts)
    )
    return Bundle(name="gateway", ledger=LEDGERS["gateway"], migrations=migrations)


@pytest.fixture(scope="module", params=["shipped", *SYSTEM_SERVERS])
def server(
    request: pytest.FixtureRequest,
    postgres_server: PostgresServer,
    run_server: RunServer,
) -> Iterator[PostgresServer]:
    """Run a server of each version."""
    if request.param == "shipped":
        yield postgres_server
        return
    name = request.param
    with run_server(f"runner on {name}", bindir=SYSTEM_SERVERS[name], settings=settings_for(name)) as started:
        yield started


def test_apply_resume_and_nontransactional_statements(server: PostgresServer) -> None:
    """A file fails half-way and resumes in a new session with its settings; everything is applied once."""
    conninfo = server.conninfo(server.create_database())
    bundle = bundle_of(*FILES)
    with psycopg.connect(conninfo, autocommit=True) as connection:
        with pytest.raises(StatementFailedError, match="42P01") as failed:
            migrate(bundle, connection)
        assert failed.value.applied == ("m0", "m1")
        connection.execute("CREATE TABLE cause AS SELECT 1 AS n")
    with psycopg.connect(conninfo, autocommit=True) as connection:
        assert migrate(bundle, connection).applied == ("m2", "m3", "m4", "m5")
        assert connection.execute("SELECT n FROM s.here").fetchall() == [(5,)]
        assert connection.execute("SELECT a FROM t ORDER BY a").fetchall() == [(1,), (2,), (3,)]
        assert connection.execute("SELECT count(*) FROM pg_index WHERE NOT indisvalid").fetchone() == (0,)
        assert connection.execute("SELECT count(*) FROM pg_inherits").fetchone() == (0,)
        assert read_plan(connection, bundle).up_to_date


@pytest.mark.parametrize("left", ["nothing", "valid", "invalid"])
def test_an_interrupted_index_is_recovered(server: PostgresServer, left: str) -> None:
    """Whether the index is missing, valid or invalid, one valid index exists in the end."""
    conninfo = server.conninfo(server.create_database())
    sql = "CREATE INDEX CONCURRENTLY t_b ON t (b)"
    bundle = bundle_of(FILES[0], (sql,))
    seen: list[Event] = []
    with psycopg.connect(conninfo, autocommit=True) as connection:
        migrate(bundle_of(FILES[0]), connection)
        ledger.create(connection, bundle.ledger)
        assert progress.note_intent(connection, bundle.ledger, bundle.migrations[1], 1, {"sql": sql, "existed": False})
        if left != "nothing":
            connection.execute(sql.encode())
        if left == "invalid":
            connection.execute("UPDATE pg_index SET indisvalid = false WHERE indexrelid = 't_b'::regclass")
        assert migrate(bundle, connection, on_event=seen.append).applied == ("m1",)
        found = connection.execute("SELECT indisvalid FROM pg_index WHERE indexrelid = 't_b'::regclass").fetchall()
        assert found == [(True,)]
    verdicts = [event.verdict for event in seen if isinstance(event, StatementRecovered)]
    assert verdicts == ["applied" if left == "valid" else "run"]
