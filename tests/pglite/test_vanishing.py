"""Clients that disconnect at any point: their state is removed, and other clients are not blocked."""

from __future__ import annotations

import pytest
from tests.pglite.process import Connect, Connection, Sidecar, eventually
from tests.pglite.wire import EXECUTE, FLUSH, SYNC, bind, client, message, parse, query, startup

COPY = query("COPY vanishing FROM STDIN")
ROW = message(b"d", b"1\tx\n")
INSERT = query("BEGIN; INSERT INTO vanishing VALUES (1)")
WAYS = {
    "after the start": b"",
    "in a length": b"Q\0\0",
    "in a message": message(b"Q", b"SELECT 1\0" * 100)[:50],
    "in a long message": message(b"Q", b" " * 3_000_000)[:2_000_000],
    "without Sync": parse("", "INSERT INTO vanishing VALUES (1, '')") + bind("") + EXECUTE,
    "after Flush": parse("", "INSERT INTO vanishing VALUES (1, '')") + bind("") + EXECUTE + FLUSH,
    "in a long pipeline": parse("p", "SELECT $1") + bind("p", "x" * 1000) * 2000,
    "in a transaction": INSERT,
    "in a failed transaction": INSERT + query("SELECT 1/0"),
    "in a transaction, in a message": INSERT + b"Q\0\0",
    "in a transaction, without Sync": INSERT + parse("", "SELECT 1"),
    "at the start of COPY": COPY,
    "between rows of COPY": COPY + ROW,
    "in a row of COPY": COPY + ROW + ROW[:-2],
    "in a huge message of COPY": COPY + message(b"d", b"2\tlong line\n" * 50_000)[:300_000],
    "after CopyDone, extended": parse("", "COPY vanishing FROM STDIN")
    + bind("")
    + EXECUTE
    + SYNC
    + ROW
    + message(b"c"),
    "with COPY in a transaction": query("BEGIN") + COPY + ROW,
    "with much output to come": query("SELECT repeat('x', 1000) FROM generate_series(1, 100000)"),
    "with COPY to come": query("COPY (SELECT repeat('x', 1000) FROM generate_series(1, 100000)) TO STDOUT"),
    "with a failing statement": query("SELECT nonsense"),
}


@pytest.fixture
def table(connection: Connection) -> Connection:
    """Create an empty table; return a connection."""
    connection.execute("DROP TABLE IF EXISTS vanishing; CREATE TABLE vanishing (a int, b text DEFAULT '')")
    return connection


@pytest.mark.parametrize("start", [startup()[:3], startup()[:20], b""], ids=["length", "packet", "nothing"])
def test_during_startup(server: Sidecar, table: Connection, start: bytes) -> None:
    """A client may disconnect before its start-up packet is complete."""
    with client(server.directory, started=False) as raw:
        raw.send(start)
    assert table.execute("SELECT 1").fetchone() == (1,)


@pytest.mark.parametrize("how", ["close", "shutdown"])
@pytest.mark.parametrize("way", WAYS)
def test_after_startup(server: Sidecar, table: Connection, way: str, how: str) -> None:
    """Uncommitted changes of a client that disconnects are rolled back."""
    with client(server.directory) as raw:
        raw.send(WAYS[way])
        if how == "shutdown":
            raw.socket.shutdown(1)
            raw.rest()  # answers, if any; then the server closes the connection
    assert table.execute("SELECT count(*) FROM vanishing").fetchone() == (0,)
    assert table.info.transaction_status == 0


def test_complete_statement_is_executed(server: Sidecar, table: Connection) -> None:
    """A complete statement is executed although its client disconnected, as in PostgreSQL."""
    with client(server.directory) as raw:
        raw.send(query("INSERT INTO vanishing VALUES (7)"), message(b"X"))
    assert eventually(lambda: table.execute("SELECT count(*) FROM vanishing").fetchone() == (1,))


def test_while_queued(server: Sidecar, connect: Connect, table: Connection) -> None:
    """A client may disconnect while it waits for another one's transaction."""
    holder = connect()
    holder.execute("BEGIN")
    for _ in range(5):
        with client(server.directory) as raw:
            raw.send(query("SELECT 1"))
    with client(server.directory) as raw:
        raw.send(query("INSERT INTO vanishing VALUES (1)") * 3)
        holder.execute("COMMIT")
        raw.until("Z")
    assert eventually(lambda: table.execute("SELECT count(*) FROM vanishing").fetchone() == (3,))


def test_output_without_a_reader(server: Sidecar, table: Connection) -> None:
    """A statement of a disconnected client is interrupted by its unread output."""
    with client(server.directory) as raw:
        raw.send(query("SELECT repeat('x', 1000), generate_series(1, 1000000000)"))
        raw.receive()
    assert table.execute("SELECT 1").fetchone() == (1,)


def test_long_statement_without_output(server: Sidecar, table: Connection) -> None:
    """A statement of a disconnected client is interrupted when other connections wait."""
    with client(server.directory) as raw:
        raw.send(query("SELECT pg_sleep(3600)"))
    assert table.execute("SELECT 1").fetchone() == (1,)
