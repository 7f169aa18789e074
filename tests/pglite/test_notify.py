from __future__ import annotations

from psycopg import Notify
from tests.pglite.process import Connect, Connection, Sidecar, eventually
from tests.pglite.wire import client, query

MOMENT = 0.3  # seconds to wait for a notification that must not arrive


def received(connection: Connection, count: int = 1) -> list[tuple[str, str]]:
    """Return *count* notifications, fewer if they do not arrive."""
    return [(n.channel, n.payload) for n in connection.notifies(timeout=20 if count else MOMENT, stop_after=count or 1)]


def test_only_listeners_are_notified(connect: Connect) -> None:
    """A notification reaches the listeners of its channel, across connections, and no other connection."""
    sender, one, other = connect(), connect(), connect()
    one.execute('LISTEN news; LISTEN "Mixed Case"')
    other.execute("LISTEN sports")
    sender.execute("NOTIFY news, 'first'")
    sender.execute("SELECT pg_notify('Mixed Case', 'second')")
    assert received(one, 2) == [("news", "first"), ("Mixed Case", "second")]
    assert received(other, 0) == []
    assert received(sender, 0) == []


def test_own_notification(connection: Connection) -> None:
    """A connection's own notification arrives before the end of the statement, with its own pid."""
    connection.execute("LISTEN own")
    seen: list[Notify] = []
    connection.add_notify_handler(seen.append)
    connection.execute("NOTIFY own, 'x'")
    assert [(n.payload, n.pid) for n in seen] == [("x", connection.info.backend_pid)]


def test_notify_and_listen_are_transactional(connect: Connect) -> None:
    """NOTIFY is sent at commit; a LISTEN that is rolled back has no effect."""
    sender, listener = connect(), connect()
    listener.execute("LISTEN committed")
    listener.execute("BEGIN; LISTEN dropped; ROLLBACK")
    with sender.transaction():
        sender.execute("NOTIFY committed, 'sent'; NOTIFY dropped")
    with sender.transaction(force_rollback=True):
        sender.execute("NOTIFY committed, 'rolled back'")
    assert received(listener) == [("committed", "sent")]
    assert received(listener, 0) == []


def test_unlisten_affects_only_its_connection(connect: Connect) -> None:
    """UNLISTEN, UNLISTEN * and the end of a connection do not affect other listeners."""
    sender, stays, *leave = (connect() for _ in range(5))
    for connection in (stays, *leave):
        connection.execute("LISTEN shared")
    leave[0].execute("UNLISTEN shared")
    leave[1].execute("UNLISTEN *")
    leave[2].close()
    sender.execute("NOTIFY shared, 'x'")
    assert received(stays) == [("shared", "x")]
    assert received(leave[0], 0) == received(leave[1], 0) == []


def test_channels_end_with_their_listeners(connect: Connect) -> None:
    """Without listeners of a channel the shared session does not listen to it either."""
    listener, other = connect(), connect()
    listener.execute("LISTEN ends")
    listener.close()
    asked = "SELECT count(*) FROM pg_listening_channels() c WHERE c = 'ends'"
    assert eventually(lambda: other.execute(asked).fetchone() == (0,))


def test_idle_listener(server: Sidecar, connect: Connect) -> None:
    """An idle listener receives a notification asynchronously."""
    with client(server.directory) as listener:
        listener.ask("LISTEN raw")
        connect().execute("NOTIFY raw, 'payload'")
        kind, body = listener.receive() or ("", b"")
        assert (kind, body[4:]) == ("A", b"raw\0payload\0")
        listener.send(query("SELECT 1"))
        assert [k for k, _ in listener.until("Z")] == ["T", "D", "C", "Z"]
