from __future__ import annotations

import signal
import threading
import time
from contextlib import closing, suppress

import psycopg
import pytest
from psycopg import errors
from tests.pglite.conftest import Connect
from tests.pglite.process import Connection, Sidecar, StartSidecar
from tests.pglite.wire import client, fields, query

GRACE = 4  # seconds between an interrupt and the end of the process
ENDLESS = {
    "executor": "SELECT count(*) FROM generate_series(1, 1000000000000)",
    "sleep": "SELECT pg_sleep(3600)",
    "plpgsql": "DO $$ BEGIN LOOP END LOOP; END $$",
    "output": "SELECT repeat('x', 1000), generate_series(1, 1000000000)",
}
#: Hashes 50 MB two thousand times within one expression: PostgreSQL looks for interrupts between rows only.
DEAF = f"SELECT {' || '.join(['md5(x)'] * 2000)} FROM (SELECT repeat('x', 50000000) OFFSET 0) t(x)"


@pytest.mark.parametrize("how", ENDLESS)
def test_statement_timeout(connect: Connect, how: str) -> None:
    """A statement over its limit ends with 57014 and PostgreSQL's own words; the connection goes on."""
    connection = connect(options="-c statement_timeout=300")
    for _ in range(2):
        with pytest.raises(errors.QueryCanceled, match="due to statement timeout"):
            connection.execute(ENDLESS[how])
    assert connection.execute("SELECT 1").fetchone() == (1,)


def test_the_limit_follows_the_setting(connect: Connect) -> None:
    """SET, SET LOCAL and RESET move the limit; 0 is none."""
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


def test_a_transaction_is_left_failed(connect: Connect) -> None:
    """Within a transaction the statement fails; savepoints help."""
    connection = connect(options="-c statement_timeout=200")
    with connection.transaction():
        with pytest.raises(errors.QueryCanceled), connection.transaction():
            connection.execute("SELECT pg_sleep(3600)")
        assert connection.execute("SELECT 1").fetchone() == (1,)


def test_waiting_counts(connect: Connect) -> None:
    """Who waits too long for another connection's transaction gets 57014 as well, and may try again."""
    holder, waiting = connect(), connect(options="-c statement_timeout=300")
    holder.execute("BEGIN")
    with pytest.raises(errors.QueryCanceled, match="statement timeout"):
        waiting.execute("SELECT %s::int", [1])
    holder.execute("COMMIT")
    assert waiting.execute("SELECT %s::int", [2]).fetchone() == (2,)


def test_others_are_not_touched(connect: Connect) -> None:
    """While one connection's statement is ended, those of others come to their end."""
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


def test_copy_from_a_client_that_stops(connect: Connect) -> None:
    """COPY whose client sends nothing is over its limit, too."""
    connection = connect(options="-c statement_timeout=300")
    connection.execute("CREATE TEMP TABLE stopped (a int)")
    with pytest.raises(errors.QueryCanceled), connection.cursor().copy("COPY stopped FROM STDIN") as copy:
        copy.write(b"1\n")
        time.sleep(1)
        copy.write(b"2\n")
    assert connection.execute("SELECT count(*) FROM stopped").fetchone() == (0,)


def test_the_limit_of_a_client_that_does_not_read(server: Sidecar, connection: Connection) -> None:
    """Output that nobody takes is no way around the limit."""
    with client(server.directory) as deaf:
        deaf.ask("SET statement_timeout = 500")
        deaf.send(query(ENDLESS["output"]))
        assert connection.execute("SELECT 1").fetchone() == (1,)


@pytest.mark.parametrize("how", ["executor", "sleep", "plpgsql"])
def test_cancel(connect: Connect, how: str) -> None:
    """psycopg's cancel ends the running statement, and only that."""
    connection, other = connect(), connect()
    timer = threading.Timer(0.3, connection.cancel_safe)
    timer.start()
    with pytest.raises(errors.QueryCanceled, match="due to user request"):
        connection.execute(ENDLESS[how])
    timer.join()
    assert connection.execute("SELECT 1").fetchone() == (1,)
    assert other.execute("SELECT 1").fetchone() == (1,)


def test_cancel_of_the_idle(connect: Connect) -> None:
    """A cancel for a connection that does nothing, or that waits in its transaction, does nothing."""
    connection = connect()
    connection.cancel_safe()
    assert connection.execute("SELECT 1").fetchone() == (1,)
    with connection.transaction():
        connection.execute("SELECT 1")
        connection.cancel_safe()
        assert connection.execute("SELECT 2").fetchone() == (2,)


def test_cancel_of_one_in_line(connect: Connect) -> None:
    """A cancel for a connection that waits for another one's transaction ends the waiting."""
    holder, waiting = connect(), connect()
    holder.execute("BEGIN")
    timer = threading.Timer(0.3, waiting.cancel_safe)
    timer.start()
    with pytest.raises(errors.QueryCanceled, match="due to user request"):
        waiting.execute("SELECT 1")
    timer.join()
    holder.execute("COMMIT")
    assert waiting.execute("SELECT 1").fetchone() == (1,)


def test_a_storm_of_cancels(connect: Connect) -> None:
    """Cancels at every moment hit their own connection only, also when they come too late."""
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
    """57014 to its client, the event on standard output, SIGKILL; what was committed is there afterwards."""
    sidecar = start_sidecar()
    with sidecar.connect() as connection:
        connection.execute("CREATE TABLE kept (a int); INSERT INTO kept VALUES (1)")
    raw_context = client(sidecar.directory)
    with raw_context as raw:
        raw.ask("SET statement_timeout = 3000")  # by then it is in that expression, however slow the machine is
        raw.send(query(DEAF))
        error = fields(raw.rest()[-1][1])
    assert (error["S"], error["C"]) == ("FATAL", "57014")
    assert sidecar.wait() == -signal.SIGKILL
    assert [e for e in sidecar.events if e][1:] == [{"event": "deadline", "connection": 2, "seconds": 3}]
    again = start_sidecar(directory=sidecar.directory)
    with again.connect() as connection:
        assert connection.execute("SELECT a FROM kept").fetchall() == [(1,)]


def test_a_limit_ends_with_its_connection(start_sidecar: StartSidecar) -> None:
    """The clock of a connection that has been closed harms nobody, when its limit has passed long since."""
    sidecar = start_sidecar()
    with closing(sidecar.connect()) as stays:
        for last in ("SELECT 1", "PREPARE gone AS SELECT 1", "LISTEN going"):
            with closing(sidecar.connect(options="-c statement_timeout=100")) as goes:
                goes.execute(last)
        time.sleep(GRACE + 1)
        assert stays.execute("SELECT 1").fetchone() == (1,)
    assert [event["event"] for event in sidecar.events] == ["ready"]


def test_no_limit_is_no_limit(connection: Connection) -> None:
    """Without statement_timeout a statement may run as long as it likes."""
    began = time.monotonic()
    connection.execute("SELECT pg_sleep(3)")
    assert time.monotonic() - began > 2.9
    assert isinstance(connection, psycopg.Connection)
