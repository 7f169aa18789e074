from __future__ import annotations

import signal
import threading
import time
from contextlib import closing, suppress

import psycopg
import pytest
from psycopg import errors
from tests.pglite.process import Connect, Connection, Sidecar, StartSidecar
from tests.pglite.wire import client, fields, query

GRACE = 4  # seconds from an interrupt to the end of the process
ENDLESS = {
    "executor": "SELECT count(*) FROM generate_series(1, 1000000000000)",
    "sleep": "SELECT pg_sleep(3600)",
    "plpgsql": "DO $$ BEGIN LOOP END LOOP; END $$",
    "output": "SELECT repeat('x', 1000), generate_series(1, 1000000000)",
}
#: Hashes 50 MB two thousand times within one expression: PostgreSQL checks for interrupts between rows only.
UNINTERRUPTIBLE = f"SELECT {' || '.join(['md5(x)'] * 2000)} FROM (SELECT repeat('x', 50000000) OFFSET 0) t(x)"


@pytest.mark.parametrize("how", ENDLESS)
def test_statement_timeout(connect: Connect, how: str) -> None:
    """A statement over its limit fails with 57014 and PostgreSQL's message; the connection remains usable."""
    connection = connect(options="-c statement_timeout=300")
    for _ in range(2):
        with pytest.raises(errors.QueryCanceled, match="due to statement timeout"):
            connection.execute(ENDLESS[how])
    assert connection.execute("SELECT 1").fetchone() == (1,)


def test_limit_follows_the_setting(connect: Connect) -> None:
    """SET, SET LOCAL and RESET change the limit; 0 disables it."""
    connection = connect()
    connection.execute("SET statement_timeout = '200ms'")
    with pytest.raises(errors.QueryCanceled):
        connection.execute("SELECT pg_sleep(3600)")
    with connection.transaction():
        connection.execute("SET LOCAL statement_timeout = 0")
        connection.execute("SELECT pg_sleep(0.4)")
    with pytest.raises(errors.QueryCanceled):
        connection.execute("SELECT pg_sleep(3600)")
    connection.execute("RESET statement_timeout")
    connection.execute("SELECT pg_sleep(0.4)")


def test_timeout_in_a_transaction(connect: Connect) -> None:
    """Within a transaction the statement fails, and a savepoint can be rolled back to."""
    connection = connect(options="-c statement_timeout=200")
    with connection.transaction():
        with pytest.raises(errors.QueryCanceled), connection.transaction():
            connection.execute("SELECT pg_sleep(3600)")
        assert connection.execute("SELECT 1").fetchone() == (1,)


def test_waiting_counts(connect: Connect) -> None:
    """Waiting for another connection's transaction counts: it fails with 57014, and may be retried."""
    holder, waiting = connect(), connect(options="-c statement_timeout=300")
    holder.execute("BEGIN")
    with pytest.raises(errors.QueryCanceled, match="statement timeout"):
        waiting.execute("SELECT %s::int", [1])
    holder.execute("COMMIT")
    assert waiting.execute("SELECT %s::int", [2]).fetchone() == (2,)


def test_other_connections_are_not_affected(connect: Connect) -> None:
    """While one connection's statement is cancelled, statements of other connections complete."""
    limited, free = connect(options="-c statement_timeout=300"), connect()
    seen: list[object] = []
    threads = [
        threading.Thread(target=lambda: seen.append(free.execute("SELECT pg_sleep(0.5), 'done'").fetchone()))
        for _ in range(1)
    ]
    for thread in threads:
        thread.start()
    with pytest.raises(errors.QueryCanceled):
        limited.execute("SELECT pg_sleep(3600)")
    for thread in threads:
        thread.join()
    assert seen == [("", "done")]


def test_copy_from_a_stalled_client(connect: Connect) -> None:
    """COPY from a client that sends no data fails at its limit, too."""
    connection = connect(options="-c statement_timeout=300")
    connection.execute("CREATE TEMP TABLE stopped (a int)")
    with pytest.raises(errors.QueryCanceled), connection.cursor().copy("COPY stopped FROM STDIN") as copy:
        copy.write(b"1\n")
        time.sleep(1)
        copy.write(b"2\n")
    assert connection.execute("SELECT count(*) FROM stopped").fetchone() == (0,)


def test_limit_of_a_client_that_does_not_read(server: Sidecar, connection: Connection) -> None:
    """The limit applies to a statement whose output is not read."""
    with client(server.directory) as stalled:
        stalled.ask("SET statement_timeout = 500")
        stalled.send(query(ENDLESS["output"]))
        assert connection.execute("SELECT 1").fetchone() == (1,)


@pytest.mark.parametrize("how", ["executor", "sleep", "plpgsql"])
def test_cancel(connect: Connect, how: str) -> None:
    """psycopg's cancel ends only the running statement."""
    connection, other = connect(), connect()
    timer = threading.Timer(0.3, connection.cancel_safe)
    timer.start()
    with pytest.raises(errors.QueryCanceled, match="due to user request"):
        connection.execute(ENDLESS[how])
    timer.join()
    assert connection.execute("SELECT 1").fetchone() == (1,)
    assert other.execute("SELECT 1").fetchone() == (1,)


def test_cancel_of_an_idle_connection(connect: Connect) -> None:
    """A cancel of a connection that is idle, also in a transaction, has no effect."""
    connection = connect()
    connection.cancel_safe()
    assert connection.execute("SELECT 1").fetchone() == (1,)
    with connection.transaction():
        connection.execute("SELECT 1")
        connection.cancel_safe()
        assert connection.execute("SELECT 2").fetchone() == (2,)


def test_cancel_of_a_waiting_connection(connect: Connect) -> None:
    """A cancel of a connection that waits for another one's transaction ends the wait."""
    holder, waiting = connect(), connect()
    holder.execute("BEGIN")
    timer = threading.Timer(0.3, waiting.cancel_safe)
    timer.start()
    with pytest.raises(errors.QueryCanceled, match="due to user request"):
        waiting.execute("SELECT 1")
    timer.join()
    holder.execute("COMMIT")
    assert waiting.execute("SELECT 1").fetchone() == (1,)


def test_many_cancels(connect: Connect) -> None:
    """Cancels at any time, even late ones, affect only their own connection."""
    victim, bystander = connect(), connect()
    over = threading.Event()
    hit: list[errors.QueryCanceled] = []

    def storm() -> None:
        while not over.is_set():
            victim.cancel_safe()

    def stand_by() -> None:
        while not over.is_set():
            try:
                bystander.execute("SELECT count(*) FROM generate_series(1, 2000)")
            except errors.QueryCanceled as error:
                hit.append(error)

    threads = [threading.Thread(target=work) for work in (storm, stand_by)]
    for thread in threads:
        thread.start()
    try:
        for _ in range(1000):
            with suppress(errors.QueryCanceled):
                victim.execute("SELECT 1")
    finally:
        over.set()
        for thread in threads:
            thread.join()
    assert hit == []


def test_what_cannot_be_interrupted_ends_the_process(start_sidecar: StartSidecar) -> None:
    """The client gets 57014, the event is reported, and the process ends by SIGKILL; committed data is retained."""
    sidecar = start_sidecar()
    with sidecar.connect() as connection:
        connection.execute("CREATE TABLE retained (a int); INSERT INTO retained VALUES (1)")
    raw_context = client(sidecar.directory)
    with raw_context as raw:
        raw.ask("SET statement_timeout = 3000")  # long enough to reach that expression on a slow machine
        raw.send(query(UNINTERRUPTIBLE))
        error = fields(raw.rest()[-1][1])
    assert (error["S"], error["C"]) == ("FATAL", "57014")
    assert sidecar.wait() == -signal.SIGKILL
    assert [e for e in sidecar.events if e][1:] == [{"event": "deadline", "connection": 2, "seconds": 3}]
    again = start_sidecar(directory=sidecar.directory)
    with again.connect() as connection:
        assert connection.execute("SELECT a FROM retained").fetchall() == [(1,)]


def test_limit_ends_with_its_connection(start_sidecar: StartSidecar) -> None:
    """The limit of a closed connection has no effect after it has passed."""
    sidecar = start_sidecar()
    with closing(sidecar.connect()) as stays:
        for last in ("SELECT 1", "PREPARE gone AS SELECT 1", "LISTEN going"):
            with closing(sidecar.connect(options="-c statement_timeout=100")) as goes:
                goes.execute(last)
        time.sleep(GRACE + 1)
        assert stays.execute("SELECT 1").fetchone() == (1,)
    assert [event["event"] for event in sidecar.events] == ["ready"]


def test_no_limit(connection: Connection) -> None:
    """Without statement_timeout the run time of a statement is not limited."""
    began = time.monotonic()
    connection.execute("SELECT pg_sleep(3)")
    assert time.monotonic() - began > 2.9
    assert isinstance(connection, psycopg.Connection)
