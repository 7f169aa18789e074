from __future__ import annotations

import socket
import threading

import psycopg
import pytest
from tests.pglite.process import Sidecar, StartSidecar, eventually
from tests.pglite.wire import Client, client, columns, fields, query, startup

FLOOD = "SELECT repeat('x', 1000) FROM generate_series(1, 200000)"  # 200 MB
MEMORY = 100_000_000


def test_too_many_connections(start_sidecar: StartSidecar) -> None:
    """Connections above the limit wait; those above the queue's size or time limit get 53300."""
    sidecar = start_sidecar("--max-connections", "2", "--queue", "1", "--queue-limit", "2")
    first, second = sidecar.connect(), sidecar.connect()
    queued = Client(sidecar.directory)
    queued.send(startup())
    with client(sidecar.directory, started=False) as raw:
        raw.send(startup())
        error = fields(raw.rest()[0][1])
        assert (error["S"], error["C"]) == ("FATAL", "53300")
    first.close()
    assert queued.until("Z")[-1] == ("Z", b"I")
    with pytest.raises(psycopg.OperationalError, match="too many clients"):
        sidecar.connect()  # waits for two seconds
    queued.close()
    sidecar.connect().close()
    second.close()


def test_client_that_leaves_the_queue(start_sidecar: StartSidecar) -> None:
    """A client that disconnects while it is queued frees its place in the queue."""
    sidecar = start_sidecar("--max-connections", "1", "--queue", "1", "--queue-limit", "60")
    with sidecar.connect() as first:
        with client(sidecar.directory, started=False) as raw:
            raw.send(startup())
        waiting = Client(sidecar.directory)

        def queued() -> bool:
            waiting.send(startup())
            waiting.socket.settimeout(0.3)
            try:
                return waiting.receive() is not None and reconnect()
            except TimeoutError:
                return True

        def reconnect() -> bool:
            waiting.close()
            waiting.__init__(sidecar.directory)  # type: ignore[misc]
            return False

        assert eventually(queued)
        first.close()
        waiting.socket.settimeout(30)
        assert waiting.until("Z")[-1] == ("Z", b"I")
        waiting.close()


def test_connections_without_a_startup_packet(start_sidecar: StartSidecar) -> None:
    """Connections without a start-up packet do not block others, and their number is limited."""
    sidecar = start_sidecar("--max-connections", "2", "--queue", "2")
    silent = [Client(sidecar.directory) for _ in range(15)]
    sidecar.connect().close()
    silent += [Client(sidecar.directory) for _ in range(10)]
    assert fields((silent[-1].receive() or ("", b""))[1])["C"] == "53300"
    for raw in silent:
        raw.close()
    assert eventually(lambda: _connects(sidecar))


def _connects(sidecar: Sidecar) -> bool:
    try:
        sidecar.connect().close()
    except psycopg.OperationalError:
        return False
    return True


def test_client_that_never_reads(start_sidecar: StartSidecar) -> None:
    """Output for a client that does not read is not buffered, and it blocks others only up to the limit."""
    sidecar = start_sidecar("--stall-limit", "1")
    before = sidecar.memory
    with client(sidecar.directory) as stalled, sidecar.connect() as other:
        stalled.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        stalled.send(query(FLOOD))
        stalled.receive()
        assert other.execute("SELECT 1").fetchone() == (1,)
        assert sidecar.memory - before < MEMORY


def test_slow_client_gets_all_output(start_sidecar: StartSidecar) -> None:
    """While no other connection waits, a client may read slowly."""
    sidecar = start_sidecar("--stall-limit", "1")
    with client(sidecar.directory) as slow:
        slow.send(query(FLOOD))
        slow.receive()
        threading.Event().wait(2.5)
        answers = slow.until("Z")
        assert sum(kind == "D" for kind, _ in answers) == 200_000


def test_idle_transaction_is_terminated(start_sidecar: StartSidecar) -> None:
    """An idle transaction is terminated with 25P03 and rolled back once another connection waits."""
    sidecar = start_sidecar("--stall-limit", "1")
    with sidecar.connect() as idle, sidecar.connect() as other:
        idle.execute("CREATE TABLE idle (a int)")
        idle.execute("BEGIN; INSERT INTO idle VALUES (1)")
        assert other.execute("SELECT count(*) FROM idle").fetchone() == (0,)
        with pytest.raises(psycopg.Error, match="idle while other connections waited"):
            idle.execute("SELECT 1")


def test_listener_that_never_reads_is_disconnected(start_sidecar: StartSidecar) -> None:
    """Notifications for a client that does not read are buffered only up to a limit."""
    sidecar = start_sidecar()
    before = sidecar.memory
    with client(sidecar.directory) as stalled, sidecar.connect() as sender:
        stalled.ask("LISTEN flood")
        for _ in range(40):
            sender.execute("SELECT pg_notify('flood', i || repeat('x', 7900)) FROM generate_series(1, 100) i")
        assert sidecar.memory - before < MEMORY
        assert eventually(lambda: not stalled.socket.recv(1 << 20))


def test_more_clients_than_connections(start_sidecar: StartSidecar) -> None:
    """With more concurrent clients than connections, each is served in its own transaction."""
    sidecar = start_sidecar("--max-connections", "8")
    with sidecar.connect() as connection:
        connection.execute("CREATE TABLE counted (n int); INSERT INTO counted VALUES (0)")
    failures: list[BaseException] = []

    def work() -> None:
        try:
            with sidecar.connect(autocommit=False) as connection:
                for _ in range(5):
                    (count,) = connection.execute("SELECT n FROM counted").fetchone() or (None,)
                    connection.execute("UPDATE counted SET n = %s", [count + 1])
                    connection.commit()
        except BaseException as error:  # noqa: BLE001 - reported by the assertion below
            failures.append(error)

    threads = [threading.Thread(target=work) for _ in range(40)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
    with client(sidecar.directory) as raw:
        raw.send(query("SELECT n FROM counted"))
        assert [columns(body) for kind, body in raw.until("Z") if kind == "D"] == [["200"]]
