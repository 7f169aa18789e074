"""Contract tests that every engine must pass."""

from __future__ import annotations

from contextlib import closing, suppress

import psycopg
import pytest
from psycopg import sql
from psycopg.conninfo import make_conninfo

from mosaic_gateway.engines.base import Engine
from mosaic_gateway.engines.session import connect
from mosaic_gateway.errors import MosaicError, PreflightError
from mosaic_gateway.installation.engine_name import EngineName
from mosaic_gateway.migrations import Bundle, migrate
from mosaic_gateway.migrations.failure import StatementFailedError
from mosaic_gateway.migrations.runner import read_plan

GATEWAY, STORAGE = Bundle.load("gateway"), Bundle.load("storage")


def execute(engine: Engine, statement: str) -> None:
    """Run *statement* in its own session."""
    with closing(connect(engine.conninfo(), application_name="contract")) as connection:
        connection.execute(sql.SQL(statement))


def value(engine: Engine, statement: str) -> object:
    """Return the single value that *statement* returns."""
    with closing(connect(engine.conninfo(), application_name="contract")) as connection:
        row = connection.execute(sql.SQL(statement)).fetchone()
        return row[0] if row else None


def test_conninfo_works_after_start(engine: Engine) -> None:
    """After start, a session can run statements."""
    engine.start()
    assert value(engine, "SELECT 1") == 1
    assert engine.alive()


def test_start_is_idempotent(engine: Engine) -> None:
    """A second start of a running engine has no effect."""
    engine.start()
    before = value(engine, "SELECT pg_postmaster_start_time()")
    engine.start()
    assert value(engine, "SELECT pg_postmaster_start_time()") == before


@pytest.mark.usefixtures("vectors")
def test_verify_reports_versions(engine: Engine) -> None:
    """The report names engine, server and pgvector."""
    engine.start()
    with suppress(psycopg.Error):
        execute(engine, "DROP EXTENSION IF EXISTS vector CASCADE")
    report = engine.verify()
    assert report.engine is engine.name
    assert report.server_version == value(engine, "SELECT split_part(version(), ' ', 2)")
    assert report.vector_version == value(
        engine, "SELECT default_version FROM pg_available_extensions WHERE name = 'vector'"
    )
    assert not report.vector_installed


@pytest.mark.usefixtures("vectors")
def test_verify_leaves_the_database_unchanged(engine: Engine) -> None:
    """Verify leaves no relation or extension behind."""
    engine.start()
    execute(engine, "DROP EXTENSION IF EXISTS vector CASCADE")
    count = "SELECT (SELECT count(*) FROM pg_class) + (SELECT count(*) FROM pg_extension)"
    before = value(engine, count)
    engine.verify()
    assert value(engine, count) == before


@pytest.mark.usefixtures("vectors")
def test_verify_with_pgvector_installed(engine: Engine) -> None:
    """The report says that the extension is already installed."""
    engine.start()
    execute(engine, "CREATE EXTENSION IF NOT EXISTS vector")
    assert engine.verify().vector_installed


@pytest.mark.usefixtures("vectors")
def test_pgvector_works(engine: Engine, table: str) -> None:
    """Pgvector works: table, HNSW index, nearest neighbour."""
    engine.start()
    execute(engine, "CREATE EXTENSION IF NOT EXISTS vector")
    execute(engine, f"CREATE TABLE {table} (n int, v vector(3))")
    execute(engine, f"INSERT INTO {table} VALUES (1, '[1,0,0]'), (2, '[0,1,0]'), (3, '[0,0,1]')")
    execute(engine, f"CREATE INDEX ON {table} USING hnsw (v vector_cosine_ops)")
    assert value(engine, f"SELECT n FROM {table} ORDER BY v <=> '[0.1,0.9,0]' LIMIT 1") == 2


@pytest.mark.usefixtures("vectors")
def test_server_with_pgvector_passes(engine: Engine) -> None:
    """Verify returns the version of pgvector that is available."""
    engine.start()
    assert engine.verify().vector_version


@pytest.mark.usefixtures("no_vectors")
def test_server_without_pgvector_is_refused(engine: Engine) -> None:
    """Verify fails with a hint if pgvector is missing."""
    engine.start()
    with pytest.raises(PreflightError, match="pgvector") as caught:
        engine.verify()
    assert caught.value.hint


@pytest.mark.usefixtures("vectors")
def test_migrations_resume_after_a_failure(engine: Engine) -> None:
    """On every engine the runner stops at a failure, resumes there, and is then up to date."""
    engine.start()
    with suppress(psycopg.Error):
        execute(engine, "DROP EXTENSION IF EXISTS vector CASCADE")
    name = f"migrated_{engine.name}"
    execute(engine, f"DROP DATABASE IF EXISTS {name}")
    execute(engine, f"CREATE DATABASE {name}")
    conninfo = make_conninfo(engine.conninfo(), dbname=name)
    with closing(connect(conninfo, application_name="contract")) as connection:
        connection.execute("CREATE TABLE audit_log (in_the_way integer)")
        with pytest.raises(StatementFailedError) as failed:
            migrate(GATEWAY, connection)
        assert failed.value.failure.tag == "0005_audit_log"
        connection.execute("DROP TABLE audit_log")
    with closing(connect(conninfo, application_name="contract")) as connection:
        assert migrate(GATEWAY, connection).applied == tuple(m.tag for m in GATEWAY.migrations[5:])
        assert migrate(STORAGE, connection).applied
        assert all(read_plan(connection, bundle).up_to_date for bundle in (GATEWAY, STORAGE))
    execute(engine, f"DROP DATABASE {name}")


def test_session_settings(engine: Engine) -> None:
    """Each session is in autocommit mode, UTC and UTF-8, with its application_name and connection checks."""
    engine.start()
    with closing(connect(engine.conninfo(), application_name="who is it")) as connection:
        assert connection.autocommit
        row = connection.execute(
            "SELECT current_setting('TimeZone'), current_setting('client_encoding'),"
            " current_setting('application_name'), current_setting('client_connection_check_interval')"
        ).fetchone()
    assert row == ("UTC", "UTF8", "who is it", "5s")


def test_many_sessions_at_once(engine: Engine, table: str) -> None:
    """Ten concurrent connections see each other's commits, on PGlite through one shared session."""
    engine.start()
    sessions = [connect(engine.conninfo(), application_name=f"crowd {n}") for n in range(10)]
    count = sessions[0].execute("SELECT count(*) FROM pg_stat_activity WHERE application_name LIKE 'crowd %'")
    assert count.fetchone() == (1 if engine.name is EngineName.PGLITE else 10,)
    sessions[0].execute(sql.SQL("CREATE TABLE {} AS SELECT 7 AS n").format(sql.Identifier(table)))
    assert [session.execute(f"TABLE {table}".encode()).fetchone() for session in sessions] == [(7,)] * 10
    for session in sessions:
        session.close()


def test_restart_retains_the_data(engine: Engine, table: str) -> None:
    """Committed data survives stop and start."""
    engine.start()
    execute(engine, f"CREATE TABLE {table} AS SELECT 'käse' AS word")
    engine.stop()
    engine.start()
    assert value(engine, f"SELECT word FROM {table}") == "käse"


def test_stop_is_idempotent(engine: Engine) -> None:
    """Stop has no effect before a start or a second time."""
    engine.stop()
    engine.start()
    engine.stop()
    engine.stop()


def test_errors_have_code_and_hint(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    """Verify without a reachable server raises a MosaicError with code and hint, not a psycopg error."""
    engine.stop()
    if engine.name == "server":
        monkeypatch.setattr(engine, "_url", type(engine._url)("host=127.0.0.1 port=1 password=s3cret"))  # type: ignore[attr-defined]
    with pytest.raises(MosaicError) as caught:
        engine.verify()
    assert caught.value.code
    assert caught.value.hint
    assert not engine.alive()
