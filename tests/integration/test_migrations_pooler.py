"""The runner through a real PgBouncer, in transaction and session mode."""

from __future__ import annotations

import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

import psycopg
import pytest
from tests.support.postgres_server import SUPERUSER, PostgresServer

from mosaic_gateway.migrations import progress
from mosaic_gateway.migrations.advisory_lock import MigrationsBusyError, migration_lock
from mosaic_gateway.migrations.bundle import LEDGERS, Bundle
from mosaic_gateway.migrations.events import Event, PoolerDetected
from mosaic_gateway.migrations.model import Migration
from mosaic_gateway.migrations.parse import file_hash, split
from mosaic_gateway.migrations.pooler import PoolerSessionError, pinned_lock, pooler_reason
from mosaic_gateway.migrations.resolution import ResolveAnswer as Resolved
from mosaic_gateway.migrations.resolution import resolve
from mosaic_gateway.migrations.runner import migrate, read_plan, read_state
from mosaic_gateway.process.command import die_with_parent

PGBOUNCER = shutil.which("pgbouncer", path="/usr/local/bin:/usr/bin:/usr/sbin:/opt/homebrew/bin")
LIMIT = 30.0  # seconds
PORT = 6543  # names the socket; nothing listens on TCP
pytestmark = pytest.mark.skipif(PGBOUNCER is None, reason="pgbouncer is not installed: apt-get install pgbouncer")
MARK = "\n--> statement-breakpoint\n"
#: Ordinary statements that insert their number, and nontransactional ones.
FILES = (
    "CREATE TABLE notes (n integer NOT NULL)",
    *(MARK.join(f"INSERT INTO notes VALUES ({n})" for n in range(file * 20, file * 20 + 20)) for file in range(4)),
    MARK.join(("CREATE INDEX CONCURRENTLY notes_n ON notes (n)", "VACUUM notes", "INSERT INTO notes VALUES (80)")),
)
Bounce = Callable[[str], AbstractContextManager[str]]


def bundle_of(*texts: str) -> Bundle:
    """Return a bundle with a migration for each text."""
    migrations = tuple(
        Migration(tag=f"m{index}", when=index, hash=file_hash(text.encode()), statements=split(text))
        for index, text in enumerate(texts)
    )
    return Bundle(name="gateway", ledger=LEDGERS["gateway"], migrations=migrations)


BUNDLE = bundle_of(*FILES)


@pytest.fixture
def bounce(postgres_server: PostgresServer, scratch: Path, database: str) -> Bounce:
    """Return a context manager that runs PgBouncer in the given mode and yields the conninfo through it."""

    @contextmanager
    def run(mode: str) -> Iterator[str]:
        configuration = scratch / "pgbouncer.ini"
        configuration.write_text(
            f"[databases]\n* = user={SUPERUSER} host={postgres_server.directory} port={postgres_server.port}\n"
            f"[pgbouncer]\nlisten_addr =\nlisten_port = {PORT}\nunix_socket_dir = {scratch}\nauth_type = any\n"
            f"pool_mode = {mode}\ndefault_pool_size = 6\nlogfile = {scratch}/log\npidfile =\n"
        )
        assert PGBOUNCER is not None
        process = subprocess.Popen(
            [PGBOUNCER, "-q", configuration],
            stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, cwd=scratch,
            preexec_fn=die_with_parent(signal.SIGKILL),  # noqa: PLW1509 - loads libc before the fork
        )  # fmt: skip
        try:
            conninfo = psycopg.conninfo.make_conninfo(database, host=str(scratch), port=PORT)
            _wait(conninfo, process, scratch / "log")
            yield conninfo
        finally:
            process.kill()
            process.wait(LIMIT)

    return run


def _wait(conninfo: str, process: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + LIMIT
    while True:
        try:
            psycopg.connect(conninfo).close()
        except psycopg.OperationalError:
            output = log.read_text() if log.exists() else ""
            assert process.poll() is None, output
            assert time.monotonic() < deadline, output
            time.sleep(0.02)
        else:
            return


def assert_applied_once(database: str, bundle: Bundle) -> None:
    """Verify rows, ledger and index against the bundle."""
    with psycopg.connect(database, autocommit=True) as direct:
        assert [n for (n,) in direct.execute("SELECT n FROM notes ORDER BY n")] == list(range(81))
        state = read_state(direct, bundle)
        assert [row.hash for row in state.applied] == [m.hash for m in bundle.migrations]
        assert read_plan(direct, bundle).up_to_date
        assert direct.execute("SELECT count(*) FROM pg_index WHERE NOT indisvalid").fetchone() == (0,)


def test_a_direct_connection_is_not_reported_as_pooled(database: str) -> None:
    """A direct connection is recognised without a second one."""
    with psycopg.connect(database, autocommit=True) as connection:
        assert pooler_reason(connection) is None


def test_a_transaction_pooler_is_detected_and_everything_is_applied_once(bounce: Bounce, database: str) -> None:
    """Of two concurrent runners through shared sessions one runs and one waits, and the pooler is reported."""
    seen: list[Event] = []

    def run(conninfo: str) -> int:
        with psycopg.connect(conninfo, autocommit=True) as connection:
            return len(migrate(BUNDLE, connection, lock_timeout=LIMIT, on_event=seen.append).applied)

    with ThreadPoolExecutor(2) as pool, bounce("transaction") as conninfo:
        assert sorted(pool.map(run, [conninfo] * 2, timeout=LIMIT)) == [0, len(FILES)]
    assert any("process" in event.reason for event in seen if isinstance(event, PoolerDetected))
    assert_applied_once(database, BUNDLE)


def test_nothing_is_left_in_the_shared_sessions(bounce: Bounce, database: str) -> None:
    """Other clients of the pooler find no settings, prepared statements or locks of the runner."""
    with bounce("transaction") as conninfo:
        with psycopg.connect(conninfo, autocommit=True) as connection:
            migrate(BUNDLE, connection)
        others = [psycopg.connect(conninfo, autocommit=True, prepare_threshold=None) for _ in range(4)]
        for other in others:
            other.execute("BEGIN")  # pins a backend, so that each one is inspected
            assert other.execute("SELECT count(*) FROM pg_prepared_statements").fetchone() == (0,)
            query = "SELECT name, setting FROM pg_settings WHERE source = 'session'"
            names = {name for name, _ in other.execute(query)}
            assert not names & {"synchronous_commit", "lock_timeout", "client_connection_check_interval"}
        for other in others:
            other.close()
    with psycopg.connect(database, autocommit=True) as direct:
        locks = direct.execute("SELECT count(*) FROM pg_locks WHERE locktype = 'advisory'").fetchone()
        assert locks == (0,)


def test_the_lock_excludes_pooled_and_direct_runners(bounce: Bounce, database: str) -> None:
    """A runner through the pooler excludes a direct one and vice versa; both time out in the same way."""
    with (
        bounce("transaction") as conninfo,
        psycopg.connect(conninfo, autocommit=True) as pooled,
        psycopg.connect(database, autocommit=True) as direct,
    ):
        with pinned_lock(pooled, 5), pytest.raises(MigrationsBusyError), migration_lock(direct, 0.1):
            pass
        with migration_lock(direct, 5), pytest.raises(MigrationsBusyError), pinned_lock(pooled, 0.1):
            pass
        with pinned_lock(pooled, 5):
            pass


@pytest.mark.parametrize("sql", ["SET search_path = other", "CREATE TEMP TABLE scratch (n integer)", "SET ROLE other"])
def test_statements_that_need_a_session_are_refused_through_a_transaction_pooler(
    bounce: Bounce, database: str, sql: str
) -> None:
    """Nothing of the plan is run: through the pooler the statement would affect other clients."""
    bundle = bundle_of("CREATE TABLE t (n integer)", f"SELECT 1{MARK}{sql}")
    with (
        bounce("transaction") as conninfo,
        psycopg.connect(conninfo, autocommit=True) as connection,
        pytest.raises(PoolerSessionError, match=r"m1\.sql, statement 2") as refused,
    ):
        migrate(bundle, connection)
    assert "PostgreSQL directly" in str(refused.value.hint)
    with psycopg.connect(database, autocommit=True) as direct:
        assert direct.execute("SELECT to_regclass('t')").fetchone() == (None,)


def test_a_group_needs_no_session_of_its_own(bounce: Bounce, database: str) -> None:
    """It is one transaction, which stays in one server process; settings of the role are overridden in each one."""
    with psycopg.connect(database, autocommit=True) as direct:
        direct.execute("CREATE SCHEMA s; CREATE SCHEMA other")
        direct.execute(f"ALTER DATABASE {direct.info.dbname} SET search_path = other".encode())
        direct.execute(f"ALTER DATABASE {direct.info.dbname} SET default_transaction_read_only = on".encode())
        direct.execute(f"ALTER DATABASE {direct.info.dbname} SET transaction_timeout = '100ms'".encode())
    chunks = (
        "SET LOCAL search_path = s",
        "CREATE TABLE here (n integer)",
        "CREATE TEMP TABLE x ON COMMIT DROP AS SELECT 1",
    )
    sleeping = "CREATE TABLE here AS SELECT current_setting('TimeZone') AS zone FROM pg_sleep(0.3)"
    bundle = bundle_of(sleeping, MARK.join(chunks))
    with bounce("transaction") as conninfo, psycopg.connect(conninfo, autocommit=True) as connection:
        assert migrate(bundle, connection).applied == ("m0", "m1")
    with psycopg.connect(database, autocommit=True) as direct:
        found = direct.execute("SELECT schemaname FROM pg_tables WHERE tablename = 'here' ORDER BY 1").fetchall()
        assert found == [("public",), ("s",)]
        assert direct.execute("SELECT zone FROM public.here").fetchone() == ("UTC",)


def test_a_session_pooler_is_treated_as_a_direct_connection(bounce: Bounce, database: str) -> None:
    """Each client has its own backend there: settings, lock and prepared statements work."""
    seen: list[Event] = []
    settings = MARK.join(("CREATE SCHEMA s", "SET search_path = s", "CREATE TABLE here (n integer)"))
    bundle = bundle_of(*FILES, settings)
    with bounce("session") as conninfo, psycopg.connect(conninfo, autocommit=True) as connection:
        migrate(bundle, connection, on_event=seen.append)
    assert not [event for event in seen if isinstance(event, PoolerDetected)]
    assert_applied_once(database, bundle)
    with psycopg.connect(database, autocommit=True) as direct:
        assert direct.execute("SELECT to_regclass('s.here') IS NOT NULL").fetchone() == (True,)


def test_resolve_through_the_pooler_releases_the_lock(bounce: Bounce, database: str) -> None:
    """`storage resolve` acquires and releases the lock as a run does."""
    with psycopg.connect(database, autocommit=True) as direct:
        bundle = bundle_of("SELECT 1", f"CALL unknown_effect(){MARK}SELECT 2")
        migrate(bundle_of("SELECT 1"), direct)
        assert progress.note_intent(direct, bundle.ledger, bundle.migrations[1], 1, {})
        with bounce("transaction") as conninfo, psycopg.connect(conninfo, autocommit=True) as connection:
            assert resolve(bundle, connection, "m1", Resolved.APPLIED).statement == 1
            with migration_lock(direct, 0):
                pass
            assert migrate(bundle, connection).applied == ("m1",)
