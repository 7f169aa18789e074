from __future__ import annotations

from psycopg import Notify
from tests.pglite.conftest import Connect
from tests.pglite.process import Connection, Sidecar, eventually
from tests.pglite.wire import client, query

MOMENT = 0.3  # seconds in which what must not come would have come


def heard(connection: Connection, count: int = 1) -> list[tuple[str, str]]:
    """Return *count* notifications, fewer if they do not come."""
    return [(n.channel, n.payload) for n in connection.notifies(timeout=20 if count else MOMENT, stop_after=count or 1)]


def test_listeners_are_told_and_nobody_else(connect: Connect) -> None:
    """A notification reaches each listener of its channel, across connections, with the sender's pid."""
    sender, one, other = connect(), connect(), connect()
    one.execute('LISTEN news; LISTEN "Mixed Case"')
    other.execute("LISTEN sports")
    sender.execute("NOTIFY news, 'first'")
    sender.execute("SELECT pg_notify('Mixed Case', 'second')")
    assert heard(one, 2) == [("news", "first"), ("Mixed Case", "second")]
    assert heard(other, 0) == []
    assert heard(sender, 0) == []


def test_a_listener_hears_itself_in_order(connection: Connection) -> None:
    """One's own notification comes before the end of the statement, from one's own pid."""
    connection.execute("LISTEN own")
    seen: list[Notify] = []
    connection.add_notify_handler(seen.append)
    connection.execute("NOTIFY own, 'x'")
    assert [(n.payload, n.pid) for n in seen] == [("x", connection.info.backend_pid)]


def test_transactions_decide(connect: Connect) -> None:
    """NOTIFY counts at commit; LISTEN that is rolled back was none."""
    sender, listener = connect(), connect()
    listener.execute("LISTEN kept")
    listener.execute("BEGIN; LISTEN dropped; ROLLBACK")
    with sender.transaction():
        sender.execute("NOTIFY kept, 'committed'; NOTIFY dropped")
    with sender.transaction(force_rollback=True):
        sender.execute("NOTIFY kept, 'rolled back'")
    assert heard(listener) == [("kept", "committed")]
    assert heard(listener, 0) == []


def test_unlisten_of_one_is_not_everybodys(connect: Connect) -> None:
    """UNLISTEN, UNLISTEN * and the end of a connection leave the other listeners."""
    sender, stays, *leave = (connect() for _ in range(5))
    for connection in (stays, *leave):
        connection.execute("LISTEN shared")
    leave[0].execute("UNLISTEN shared")
    leave[1].execute("UNLISTEN *")
    leave[2].close()
    sender.execute("NOTIFY shared, 'x'")
    assert heard(stays) == [("shared", "x")]
    assert heard(leave[0], 0) == heard(leave[1], 0) == []


def test_channels_end_with_their_listeners(connect: Connect) -> None:
    """When nobody listens any more, neither does the shared session."""
    listener, other = connect(), connect()
    listener.execute("LISTEN ends")
    listener.close()
    asked = "SELECT count(*) FROM pg_listening_channels() c WHERE c = 'ends'"
    assert eventually(lambda: other.execute(asked).fetchone() == (0,))


def test_while_a_listener_is_idle(server: Sidecar, connect: Connect) -> None:
    """A notification comes unasked, as a message of its own."""
    with client(server.directory) as listener:
        listener.ask("LISTEN raw")
        connect().execute("NOTIFY raw, 'payload'")
        kind, body = listener.receive() or ("", b"")
        assert (kind, body[4:]) == ("A", b"raw\0payload\0")
        listener.send(query("SELECT 1"))
        assert [k for k, _ in listener.until("Z")] == ["T", "D", "C", "Z"]
