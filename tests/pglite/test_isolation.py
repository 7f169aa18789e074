"""Isolation of connections that share one session, and its limits (docs/reference/pglite-limits.md)."""

from __future__ import annotations

import threading

import psycopg
import pytest
from psycopg import errors
from tests.pglite.process import Connect, Connection, Sidecar, eventually
from tests.pglite.wire import EXECUTE, SYNC, bind, client, columns, parse, query


def setting(connection: Connection, name: str) -> str:
    """Return the result of SHOW."""
    row = connection.execute(f"SHOW {name}").fetchone()
    assert row is not None
    return str(row[0])


def test_settings_are_isolated(connect: Connect) -> None:
    """SET in all forms affects only its own connection, permanently."""
    first, second = connect(), connect()
    first.execute("SET lock_timeout = '7s'; SET search_path TO pg_catalog, \"Odd one\", public")
    first.execute("SELECT set_config('mosaic.note', %s, false)", ["it's \\ mine"])
    second.execute("SET work_mem TO '9MB'; SET transaction_timeout = '8s'")
    for _ in range(2):
        assert setting(second, "transaction_timeout") == "8s"
        assert setting(first, "transaction_timeout") == "0"
        assert setting(second, "lock_timeout") == "0"
        assert setting(second, "search_path") == "public"
        assert setting(second, "work_mem") == "9MB"
        assert setting(first, "lock_timeout") == "7s"
        assert setting(first, "search_path") == 'pg_catalog, "Odd one", public'
        assert setting(first, "mosaic.note") == "it's \\ mine"
        assert setting(first, "work_mem") != "9MB"
    first.execute("RESET ALL")
    assert setting(first, "lock_timeout") == "0"
    assert setting(second, "work_mem") == "9MB"


def test_prepared_set_config(connect: Connect) -> None:
    """A setting changed by a prepared statement is isolated as well."""
    first, second = connect(prepare_threshold=0), connect()
    for value in ("1s", "2s", "3s"):
        first.execute("SELECT set_config('lock_timeout', %s, false)", [value])
        assert setting(second, "lock_timeout") == "0"
        assert setting(first, "lock_timeout") == value


def test_settings_of_transactions(connect: Connect) -> None:
    """SET LOCAL ends with its transaction, and SET is rolled back with its transaction."""
    first, second = connect(), connect()
    with first.transaction():
        first.execute("SET LOCAL lock_timeout = '5s'")
        first.execute("SET LOCAL work_mem = '3MB'")  # a second change within one transaction
        assert setting(first, "lock_timeout") == "5s"
    assert setting(first, "lock_timeout") == "0"
    with first.transaction(force_rollback=True):
        first.execute("SET lock_timeout = '5s'")
    assert setting(first, "lock_timeout") == setting(second, "lock_timeout") == "0"
    with first.transaction():
        first.execute("SET statement_timeout = 60000")
        first.execute("SET TRANSACTION ISOLATION LEVEL SERIALIZABLE")  # must come before any query
    assert setting(first, "statement_timeout") == "1min"


def test_roles_are_isolated(connect: Connect) -> None:
    """SET ROLE and SET SESSION AUTHORIZATION of one connection do not change the privileges of others."""
    first, second = connect(), connect()
    first.execute("CREATE ROLE limited")
    first.execute("SET ROLE limited")
    second.execute("SET SESSION AUTHORIZATION limited")
    third = connect()
    for _ in range(2):
        assert first.execute("SELECT current_user, session_user").fetchone() == ("limited", "postgres")
        assert second.execute("SELECT current_user, session_user").fetchone() == ("limited", "limited")
        assert third.execute("SELECT current_user, session_user").fetchone() == ("postgres", "postgres")
    with pytest.raises(errors.InsufficientPrivilege):
        first.execute("CREATE ROLE another")
    first.execute("RESET ROLE")
    second.execute("RESET SESSION AUTHORIZATION")
    third.execute("DROP ROLE limited")


def test_dropped_role_ends_only_its_connection(connect: Connect) -> None:
    """A connection whose settings cannot be restored is terminated with the reason; others are not affected."""
    first, second = connect(), connect()
    second.execute("CREATE ROLE fleeting")
    first.execute("SET ROLE fleeting")
    second.execute("DROP ROLE fleeting")
    with pytest.raises(psycopg.OperationalError, match="settings of this session cannot be restored"):
        first.execute("SELECT 1")
    assert second.execute("SELECT current_user").fetchone() == ("postgres",)


def test_start_up_options(connect: Connect) -> None:
    """Settings of the start-up packet apply to their connection, also after RESET and DISCARD ALL."""
    options = r"-c statement_timeout=61s -cwork_mem=5MB --lock-timeout=2s -c mosaic.text=two\ words"
    first = connect(options=options, application_name="the first")
    second = connect(application_name="the second")
    assert first.info.parameter_status("application_name") == "the first"
    first.execute("SET work_mem = '6MB'")
    for reset in ("SELECT 1", "RESET ALL", "DISCARD ALL"):
        first.execute(reset)
        assert setting(second, "statement_timeout") == "0"
        assert setting(second, "application_name") == "the second"
        values = [
            setting(first, name) for name in ("statement_timeout", "lock_timeout", "mosaic.text", "application_name")
        ]
        assert values == ["61s", "2s", "two words", "the first"]


@pytest.mark.parametrize(
    ("options", "code"),
    [("-c nonsense=1", "42704"), ("-c work_mem=lots", "22023"), ("-x", "42601"), ("-c", "42601")],
)
def test_invalid_options_refuse_the_connection(server: Sidecar, options: str, code: str) -> None:
    """An invalid option is FATAL at start-up, with PostgreSQL's code; later connections are not affected."""
    with pytest.raises(psycopg.OperationalError, match="FATAL") as caught:
        server.connect(options=options)
    assert caught.value.sqlstate in {code, None}
    server.connect().close()


def test_shared_state(connect: Connect) -> None:
    """Temporary tables and advisory locks are shared by all connections, as documented."""
    first, second = connect(), connect()
    first.execute("CREATE TEMP TABLE shared_table (a int)")
    assert second.execute("SELECT count(*) FROM shared_table").fetchone() == (0,)
    assert first.execute("SELECT pg_try_advisory_lock(1)").fetchone() == (True,)
    assert second.execute("SELECT pg_try_advisory_lock(1)").fetchone() == (True,)
    first.execute("SELECT pg_advisory_unlock_all(); DROP TABLE shared_table")


def test_last_connection_cleans_the_session(server: Sidecar, connect: Connect) -> None:
    """When the last connection closes, temporary tables, locks, cursors and settings are removed."""
    first = connect()
    first.execute("CREATE TEMP TABLE leftover (a int); SET work_mem = '7MB'; SELECT pg_advisory_lock(5)")
    first.execute("DECLARE held CURSOR WITH HOLD FOR SELECT 1")
    first.close()

    def clean() -> bool:
        with server.connect() as connection:
            return connection.execute("SELECT to_regclass('leftover')").fetchone() == (None,)

    assert eventually(clean)
    second = connect()
    assert second.execute("SELECT count(*) FROM pg_locks WHERE locktype = 'advisory'").fetchone() == (0,)
    assert second.execute("SELECT count(*) FROM pg_cursors WHERE is_holdable").fetchone() == (0,)
    assert setting(second, "work_mem") != "7MB"


def test_transaction_blocks_others(connect: Connect) -> None:
    """Statements of other connections wait for the end of a transaction."""
    first, second = connect(), connect()
    first.execute("CREATE TABLE turns (a int)")
    first.execute("BEGIN; INSERT INTO turns VALUES (1)")
    counts: list[object] = []
    thread = threading.Thread(target=lambda: counts.append(second.execute("SELECT count(*) FROM turns").fetchone()))
    thread.start()
    first.execute("INSERT INTO turns VALUES (2)")
    first.execute("INSERT INTO turns VALUES (3)")
    assert counts == []
    first.execute("COMMIT")
    thread.join()
    assert counts == [(3,)]
    first.execute("DROP TABLE turns")


@pytest.mark.parametrize("half", [parse("", "SELECT 'whole'") + bind(""), query("SELECT 'whole'")[:9]])
def test_incomplete_input_blocks_no_one(server: Sidecar, connection: Connection, half: bytes) -> None:
    """An incomplete pipeline or message does not block other connections, and may be completed later."""
    with client(server.directory) as raw:
        raw.send(half)
        for _ in range(3):
            assert connection.execute("SELECT 1").fetchone() == (1,)
        raw.send(EXECUTE + SYNC if half[:1] == b"P" else query("SELECT 'whole'")[9:])
        assert [columns(body) for kind, body in raw.until("Z") if kind == "D"] == [["whole"]]


def test_concurrent_connections(connect: Connect) -> None:
    """Ten connections with large parameters each get their own answers."""
    connections = [connect() for _ in range(10)]
    wrong: list[object] = []

    def work(number: int, connection: Connection) -> None:
        for turn in range(10):
            value = f"{number}-{turn}-" + "x" * (100_000 * (turn % 3))
            row = connection.execute("SELECT %s::text, %s::int", [value, number]).fetchone()
            if row != (value, number):
                wrong.append(row)

    threads = [threading.Thread(target=work, args=pair) for pair in enumerate(connections)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []
