"""Backends of killed runners: they end by themselves within seconds and release the lock."""

from __future__ import annotations

from contextlib import ExitStack

import psycopg
import pytest
from tests.sweep import gates
from tests.sweep.bundles import contents, write
from tests.sweep.runners import ForkServer

TABLE = ("CREATE TABLE t (n integer)", "CREATE INDEX t_i ON t (n)")
EXIT_LIMIT = 5.0  # seconds; it usually takes about 0.2
WORKING = (
    "SELECT pid FROM pg_stat_activity WHERE application_name LIKE 'runner %' AND state = 'active' AND query ~ '{}'"
)
#: name -> the statements, a pattern of the query that then runs, and the SQL whose lock makes it wait.
LONG: dict[str, tuple[tuple[str, ...], str, str]] = {
    "in a transaction": (("SELECT pg_sleep(30)", "INSERT INTO t VALUES (1)"), "pg_sleep", ""),
    "after RESET ALL": (("RESET ALL", "SELECT pg_sleep(30)", "INSERT INTO t VALUES (1)"), "pg_sleep", ""),
    "after DISCARD ALL": (("DISCARD ALL", "SELECT pg_sleep(30)", "INSERT INTO t VALUES (1)"), "pg_sleep", ""),
    "CONCURRENTLY": (
        ("CREATE INDEX CONCURRENTLY t_n ON t (n)", "INSERT INTO t VALUES (1)"), "^CREATE", "INSERT INTO t VALUES (0)",
    ),
    "DROP CONCURRENTLY": (
        ("DROP INDEX CONCURRENTLY t_i", "INSERT INTO t VALUES (1)"), "^DROP", "SELECT * FROM t",
    ),
    "REINDEX": (
        ("REINDEX INDEX CONCURRENTLY t_i", "INSERT INTO t VALUES (1)"), "^REINDEX",
        "INSERT INTO t VALUES (0)",
    ),
    "VACUUM": (("VACUUM t", "INSERT INTO t VALUES (1)"), "^VACUUM", "LOCK TABLE t"),
}  # fmt: skip


@pytest.mark.parametrize("name", LONG)
def test_the_lock_is_released_soon_after_a_kill(
    database: str,
    fork_server: ForkServer,
    tmp_path_factory: pytest.TempPathFactory,
    name: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """The backend checks its client's connection during a long statement; the next run completes the migration."""
    statements, working, lock = LONG[name]
    bundle = (str(write(tmp_path_factory.mktemp("long"), contents([TABLE, statements]))),)
    quick = tuple(sql.replace("pg_sleep(30)", "pg_sleep(0)") for sql in statements)
    with psycopg.connect(database, autocommit=True) as connection, ExitStack() as stack:
        first = (str(write(tmp_path_factory.mktemp("first"), contents([TABLE]))),)
        assert fork_server.start(database, first).wait().error is None
        if lock:
            stack.enter_context(psycopg.connect(database)).execute(lock.encode())
        runner = fork_server.start(database, bundle)
        pid = int(str(gates.wait_for(connection, WORKING.format(working))))
        runner.kill()
        elapsed = gates.seconds_until_gone(connection, pid)
        assert elapsed < EXIT_LIMIT
        free = connection.execute("SELECT count(*) FROM pg_locks WHERE locktype = 'advisory'").fetchone()
        assert free == (0,)
    with capsys.disabled():
        print(f"\nlock released {elapsed:.2f} s after the kill, {name}", end="")  # noqa: T201 - a measurement
    edited = (str(write(tmp_path_factory.mktemp("quick"), contents([TABLE, quick]))),)
    end = fork_server.start(database, edited).wait()
    assert end.error is None, end.message
    with psycopg.connect(database, autocommit=True) as connection:
        assert connection.execute("SELECT count(*) FROM t WHERE n = 1").fetchone() == (1,)
        assert connection.execute("SELECT count(*) FROM pg_index WHERE NOT indisvalid").fetchone() == (0,)
