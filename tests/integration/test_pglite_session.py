"""Migrations in PGlite's shared session, alone and with several runners."""

from __future__ import annotations

import threading

import psycopg
import pytest
from psycopg import sql
from tests.support.engine_marks import on_pglite
from tests.sweep.bundles import contents, write

from mosaic_gateway.errors import MosaicError
from mosaic_gateway.migrations import Bundle, migrate
from mosaic_gateway.migrations.baseline import ScratchDatabaseError, baseline, scratch_on
from mosaic_gateway.migrations.runner import read_plan
from mosaic_gateway.migrations.shared_session import SharedSessionError

pytestmark = on_pglite


CUSTOM = ("SET my.step = '7'", "CREATE TABLE created AS SELECT current_setting('my.step')::int AS n")
TEMPORARY = ("CREATE TEMPORARY TABLE work AS SELECT 7 AS n", "CREATE TABLE created AS SELECT n FROM work")


def connect(conninfo: str) -> psycopg.Connection:
    """Open a session."""
    return psycopg.connect(conninfo, autocommit=True)


@pytest.fixture
def bundle(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    """Return a bundle of one file with the statements that the test names."""
    return Bundle.from_directory(write(tmp_path_factory.mktemp("files") / "bundle", contents([request.param])))


@pytest.mark.parametrize("bundle", [CUSTOM, TEMPORARY], ids=["custom", "temporary"], indirect=True)
def test_session_state_is_refused_unless_alone(database: str, bundle: Bundle) -> None:
    """A file that depends on session state is refused before any write with a hint; alone, it runs."""
    with connect(database) as connection:
        with pytest.raises(SharedSessionError) as caught:
            migrate(bundle, connection)
        assert "mosaic-gateway stop" in str(caught.value.hint)
        assert connection.execute("SELECT to_regnamespace('drizzle')").fetchone() == (None,)
        migrate(bundle, connection, alone=True)
        assert connection.execute("TABLE created").fetchone() == (7,)


@pytest.mark.parametrize(
    "bundle", [("CREATE SCHEMA other", "SET search_path = other", "CREATE TABLE here (n int)")], indirect=True
)
def test_settings_are_isolated(database: str, bundle: Bundle) -> None:
    """Concurrent connections see their own settings, and the file retains its own."""
    ended = threading.Event()
    with connect(database) as connection, connect(database) as other:

        def ask() -> None:
            while not ended.is_set():
                seen.add(str(other.execute("SHOW search_path").fetchone()))

        seen: set[str] = set()
        thread = threading.Thread(target=ask)
        thread.start()
        migrate(bundle, connection)
        ended.set()
        thread.join()
        assert connection.execute("SELECT to_regclass('other.here') IS NOT NULL").fetchone() == (True,)
    assert len(seen) == 1


def test_baseline_refuses_the_same_database_as_scratch(database: str) -> None:
    """Every database name leads to the same database, so it is refused as a scratch database."""
    with connect(database) as connection:

        def other(name: str) -> psycopg.Connection:
            return connect(psycopg.conninfo.make_conninfo(database, dbname=name))

        with pytest.raises(ScratchDatabaseError, match="only one database"):
            baseline(Bundle.load("storage"), connection, lambda: scratch_on(connection, other), to="0000_documents")
        assert not read_plan(connection, Bundle.load("storage")).applied


def test_concurrent_runners_on_one_sidecar(database: str) -> None:
    """Four concurrent runners without a lock apply every statement exactly once."""
    applied: list[str] = []
    errors: list[MosaicError] = []

    def run() -> None:
        with connect(database) as connection:
            try:
                applied.extend(migrate(Bundle.load("gateway"), connection).applied)
            except MosaicError as error:
                errors.append(error)

    threads = [threading.Thread(target=run) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not errors
    assert sorted(applied) == [migration.tag for migration in Bundle.load("gateway").migrations]
    with connect(database) as connection:
        count = sql.SQL("SELECT count(*) FROM drizzle.__drizzle_migrations")
        assert connection.execute(count).fetchone() == (10,)
