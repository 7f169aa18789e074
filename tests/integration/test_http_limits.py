"""Limits of connections, over real sockets; times are shortened, sizes are the product's."""

from __future__ import annotations

import json
import logging
import re
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager, suppress
from dataclasses import dataclass, field, replace

import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route
from tests.support.http_gateway import LIMITS, Gateway, RunGateway, run_server

from mosaic_gateway.gateway.run.guarded_protocol import http_settings
from mosaic_gateway.gateway.run.http_limits import HttpLimits

SHORT = replace(LIMITS, head_seconds=0.5, body_seconds=0.6, answer_seconds=0.6, idle_seconds=1)
PATIENCE = 15.0  # seconds; much longer than every limit of `SHORT`
HEALTH = b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n"
SIGN_IN = b"POST /api/auth/sign-in/email HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
KIB = 1024


@dataclass
class Client:
    """A connection, and the statuses and the body that it received until its end."""

    port: int
    connection: socket.socket = field(init=False)
    received: bytes = b""

    def __post_init__(self) -> None:
        self.connection = socket.create_connection(("127.0.0.1", self.port), timeout=PATIENCE)

    def send(self, data: bytes) -> bool:
        """Send *data*; return whether the connection still accepts it."""
        try:
            self.connection.sendall(data)
        except (BrokenPipeError, ConnectionResetError):
            return False
        return True

    def drip(self, data: bytes, pause: float) -> None:
        """Send *data* byte by byte until the server closes the connection."""
        for byte in data:
            if not self.send(bytes([byte])) or self.has_ended(pause):
                return
        raise AssertionError("the connection was not closed")

    def has_ended(self, wait: float) -> bool:
        """Receive for *wait* seconds; return whether the server has closed the connection."""
        self.connection.settimeout(wait)
        try:
            chunk = self.connection.recv(65536)
        except TimeoutError:
            return False
        except ConnectionResetError:
            return True
        finally:
            self.connection.settimeout(PATIENCE)
        self.received += chunk
        return not chunk

    def rest(self) -> list[int]:
        """Receive until the end of the connection; return the statuses of the responses."""
        deadline = time.monotonic() + PATIENCE
        while not self.has_ended(PATIENCE):
            assert time.monotonic() < deadline
        return self.statuses()

    def statuses(self) -> list[int]:
        """Return the statuses of the responses so far."""
        return [int(status) for status in re.findall(rb"HTTP/1\.1 (\d\d\d)", self.received)]

    def wait_for(self, count: int) -> list[int]:
        """Receive until *count* responses have begun."""
        while len(self.statuses()) < count and not self.has_ended(PATIENCE):
            pass
        return self.statuses()


Connect = Callable[[], Client]


@contextmanager
def connecting(port: int) -> Iterator[Connect]:
    """Yield a function that connects; all connections are closed at the end."""
    with ExitStack() as stack:

        def connect() -> Client:
            client = Client(port)
            stack.enter_context(closing(client.connection))
            return client

        yield connect


@pytest.fixture
def connect(http_shared: Gateway) -> Iterator[Connect]:
    """Connect to the gateway with the product's limits."""
    with connecting(http_shared.port) as connect:
        yield connect


@pytest.fixture(scope="module")
def short(http_shared: Gateway, http_run: RunGateway) -> Iterator[Gateway]:
    """The gateway with short times."""
    with http_run(http_shared.conninfo, limits=SHORT) as gateway:
        yield gateway


@pytest.fixture
def connect_short(short: Gateway) -> Iterator[Connect]:
    """Connect to the gateway with short times."""
    with connecting(short.port) as connect:
        yield connect


def assert_refusal(client: Client, status: int, code: str) -> None:
    """Check that the last response is one of ours."""
    head, _, body = client.received[client.received.rindex(b"HTTP/1.1") :].partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 %d " % status)
    assert json.loads(body)["code"] == code
    assert set(json.loads(body)) == {"message", "code"}
    for line in (b"x-content-type-options: nosniff", b"cache-control: no-store", b"connection: close"):
        assert line in head, head
    assert b"content-type: application/json" in head


def test_shipped_values() -> None:
    """The limits that the gateway ships with."""
    assert HttpLimits() == HttpLimits(
        head_bytes=32768, head_seconds=10, body_seconds=30, answer_seconds=30, rate=1024, idle_seconds=75,
        linger_seconds=0.5, linger_bytes=1048576, pipelined=32, connections=4096, spare=16, spare_seconds=2,
    )  # fmt: skip


@pytest.mark.parametrize("shape", ["many fields", "one field", "request line", "field name"])
def test_head_too_large(connect: Connect, shape: str) -> None:
    """A head of 100 MB is answered 431 long before it is all sent."""
    piece = {"many fields": b"x-a: b\r\n" * 8192, "field name": b"a" * 65536}.get(shape, b"a" * 65536)
    client = connect()
    client.send(b"GET /" if shape == "request line" else b"GET /healthz HTTP/1.1\r\n")
    client.send(b"x: " if shape == "one field" else b"")
    sent = 0
    while sent < 100_000_000 and client.send(piece):
        sent += len(piece)
    assert sent < 100_000_000
    assert client.rest() == [431]
    assert_refusal(client, 431, "REQUEST_HEADER_FIELDS_TOO_LARGE")


def test_field_of_60_kb(connect: Connect) -> None:
    """A field of 60 KB is answered 431; the response arrives although the whole request was sent."""
    client = connect()
    client.send(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\nx: " + b"a" * 60_000 + b"\r\n\r\n")
    assert client.rest() == [431]


def test_error_is_received_before_the_end(connect: Connect) -> None:
    """A client that sends more than was read of it receives the error, and no reset."""
    client = connect()
    assert client.send(b"GET /healthz HTTP/1.1\r\nx: " + b"a" * 900_000)
    while chunk := client.connection.recv(65536):
        client.received += chunk
    assert client.statuses() == [431]


@pytest.mark.parametrize(("size", "status"), [(32 * KIB, 200), (32 * KIB + 1, 431)])
@pytest.mark.parametrize("blocks", [1, 7])
def test_limit_of_a_head_is_exact(connect: Connect, size: int, status: int, blocks: int) -> None:
    """32 KiB of request line and headers are accepted, one byte more is not, however they are sent."""
    start, end = b"GET /healthz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nx: ", b"\r\n\r\n"
    head = start + b"a" * (size - len(start) - len(end)) + end
    client = connect()
    for number in range(blocks):
        client.send(head[number * size // blocks : (number + 1) * size // blocks])
        time.sleep(0.02)
    assert client.rest() == [status]


@pytest.mark.parametrize("first", [HEALTH, SIGN_IN + b"Content-Length: 2\r\n\r\n{}"])
def test_second_head_too_large(connect: Connect, first: bytes) -> None:
    """The head of a later request is limited, too; the request before it is answered."""
    client = connect()
    client.send(first + b"GET /healthz HTTP/1.1\r\nHost: localhost\r\nx: " + b"a" * 100_000 + b"\r\n\r\n")
    (status, *more) = client.rest()
    assert status in {200, 400}
    assert more in ([], [431])
    client = connect()
    client.send(first)
    client.wait_for(1)
    client.send(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\nx: " + b"a" * 33_000 + b"\r\n\r\n")
    assert client.rest()[1:] == [431]


@pytest.mark.parametrize("tail", [b"1;" + b"x" * 100_000, b"0\r\nx: " + b"a" * 100_000], ids=["extension", "trailer"])
def test_extensions_and_trailers_too_large(connect: Connect, tail: bytes) -> None:
    """Chunk extensions and trailers have the same limit as a head."""
    client = connect()
    client.send(SIGN_IN + b"Transfer-Encoding: chunked\r\n\r\n1\r\n{\r\n" + tail)
    assert client.rest() == [431]


def test_nothing_sent(connect_short: Connect) -> None:
    """A connection on which nothing arrives is closed without a response."""
    client = connect_short()
    start = time.monotonic()
    assert client.rest() == []
    assert time.monotonic() - start >= SHORT.head_seconds


@pytest.mark.parametrize("before", [b"", HEALTH], ids=["first", "second"])
@pytest.mark.parametrize("shape", ["dripped", "stopped"])
def test_head_too_slow(connect_short: Connect, before: bytes, shape: str) -> None:
    """A head that is not complete in time is answered 408, whether bytes still arrive or not."""
    client = connect_short()
    client.send(before)
    answered = client.wait_for(1 if before else 0)
    if shape == "dripped":
        client.drip(b"GET /healthz HTTP/1.1\r\nx: " + b"a" * 1000, 0.05)
    else:
        client.send(b"GET /healthz HTTP/1.1\r\n")
    assert client.rest() == [*answered, 408]
    assert_refusal(client, 408, "REQUEST_TIMEOUT")


def test_blank_lines_are_no_request(connect_short: Connect) -> None:
    """Line ends before a request do not extend its time."""
    client = connect_short()
    client.drip(b"\r\n" * 500, 0.05)
    assert client.rest() == []


@pytest.mark.parametrize("framing", [b"Content-Length: 1000", b"Transfer-Encoding: chunked"])
def test_half_a_body(connect_short: Connect, framing: bytes) -> None:
    """A body that stops is answered 408."""
    client = connect_short()
    client.send(SIGN_IN + framing + b"\r\n\r\n1\r\n{\r\n")
    assert client.rest() == [408]
    assert_refusal(client, 408, "REQUEST_TIMEOUT")


@pytest.mark.parametrize("chunked", [False, True])
def test_dripped_body(connect_short: Connect, *, chunked: bool) -> None:
    """A body that progresses, but below the minimum rate, is answered 408."""
    client = connect_short()
    client.send(SIGN_IN + (b"Transfer-Encoding: chunked" if chunked else b"Content-Length: 1000") + b"\r\n\r\n")
    client.drip(b"1\r\na\r\n" * 500 if chunked else b"a" * 1000, 0.05)
    assert client.rest() == [408]


def test_body_that_nothing_reads(connect_short: Connect) -> None:
    """A body that stops after its request was answered ends the connection without a second response."""
    client = connect_short()
    client.send(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1000\r\n\r\na")
    assert client.rest() == [200]


def test_slow_but_steady_body(connect_short: Connect) -> None:
    """A body above the minimum rate may take longer than a stopped one."""
    client = connect_short()
    body = b'{"a": "' + b"b" * 40_000 + b'"}'
    client.send(SIGN_IN + b"Connection: close\r\nContent-Length: %d\r\n\r\n" % len(body))
    start = time.monotonic()
    for position in range(0, len(body), 2000):
        assert client.send(body[position : position + 2000])
        time.sleep(0.06)
    assert time.monotonic() - start > SHORT.body_seconds
    assert client.rest() == [400]


def test_idle_connection(connect_short: Connect) -> None:
    """An idle connection serves further requests, and is closed after its time."""
    client = connect_short()
    for number in range(3):
        client.send(HEALTH)
        client.wait_for(number + 1)
        time.sleep(0.7)  # more than head_seconds
    start = time.monotonic()
    assert client.rest() == [200] * 3
    assert time.monotonic() - start < SHORT.idle_seconds


def test_pipelined_requests(connect: Connect) -> None:
    """Pipelined requests are answered in order; a connection cannot have any number of them."""
    client = connect()
    client.send(HEALTH * 20 + HEALTH.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n"))
    assert client.rest() == [200] * 21
    client = connect()
    client.send(HEALTH * 5000)
    assert len(client.rest()) <= LIMITS.pipelined


def test_pipelined_bodies(connect: Connect) -> None:
    """Bodies between pipelined heads do not count as heads."""
    client = connect()
    body = b"a" * 30_000
    request = SIGN_IN + b"Content-Length: %d\r\n\r\n" % len(body) + body
    client.send(request * 20 + HEALTH.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n"))
    assert client.rest() == [400] * 20 + [200]


def test_expect_continue(connect: Connect) -> None:
    """The body is awaited after "100 Continue"."""
    client = connect()
    client.send(SIGN_IN + b"Expect: 100-continue\r\nContent-Length: 2\r\nConnection: close\r\n\r\n")
    assert client.wait_for(1) == [100]
    client.send(b"{}")
    assert client.rest() == [100, 400]


@pytest.mark.parametrize(("size", "status"), [(1024 * KIB, 400), (1024 * KIB + 1, 413)])
def test_body_of_1_mib(connect: Connect, size: int, status: int) -> None:
    """A body of 1 MiB is read, a larger one is answered 413."""
    client = connect()
    client.send(SIGN_IN + b"Connection: close\r\nContent-Length: %d\r\n\r\n" % size)
    client.send(b'{"a": "' + b"b" * (size - 9) + b'"}')
    assert client.rest() == [status]


SMUGGLED = b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n"
SHAPES = {
    "length and chunked": b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "two lengths": b"Content-Length: 0\r\nContent-Length: 5\r\n\r\n",
    "length list": b"Content-Length: 0, 5\r\n\r\n",
    "negative length": b"Content-Length: -1\r\n\r\n",
    "bad chunk": b"Transfer-Encoding: chunked\r\n\r\nzz\r\n",
    "chunk without end": b"Transfer-Encoding: chunked\r\n\r\n1\r\nabc\r\n0\r\n\r\n",
    "chunked twice": b"Transfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n\r\n0\r\n\r\n",
    "folded field": b"x: a\r\n b\r\nContent-Length: 0\r\n\r\n",
    "bare line feed": b"x: a\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "NUL": b"x: a\x00b\r\n\r\n",
    "space before colon": b"Transfer-Encoding : chunked\r\n\r\n0\r\n\r\n",
    "bad UTF-8 in a name": b"\xff\xfe: a\r\n\r\n",
}


@pytest.mark.parametrize("shape", SHAPES)
def test_smuggling_shapes(connect: Connect, shape: str) -> None:
    """No ambiguous request is answered together with a second one that hides behind it."""
    client = connect()
    client.send(b"POST /healthz HTTP/1.1\r\nHost: localhost\r\n" + SHAPES[shape] + SMUGGLED)
    assert client.send(b"") is True
    client.connection.shutdown(socket.SHUT_WR)
    statuses = client.rest()
    assert statuses.count(200) == 0
    assert set(statuses) <= {400, 405}
    if 400 in statuses:
        assert_refusal(client, 400, "BAD_REQUEST")


@pytest.mark.parametrize("body", [b"Content-Length: %d" % len(SMUGGLED), b"Transfer-Encoding: chunked"])
@pytest.mark.parametrize("protocol", [b"h2c", b"websocket"])
def test_upgrade_with_a_body(connect: Connect, protocol: bytes, body: bytes) -> None:
    """The body of a request that asks for another protocol is never read as a request."""
    client = connect()
    upgrade = b"Connection: Upgrade\r\nUpgrade: " + protocol + b"\r\n"
    client.send(b"POST /healthz HTTP/1.1\r\nHost: localhost\r\n" + upgrade + body + b"\r\n\r\n")
    assert client.wait_for(1) == [400]
    client.send(SMUGGLED)
    assert client.rest() == [400]
    assert_refusal(client, 400, "BAD_REQUEST")


def test_upgrade_without_a_body(connect: Connect) -> None:
    """It is answered in HTTP/1.1, as the last one of its connection."""
    client = connect()
    client.send(SMUGGLED.replace(b"\r\n\r\n", b"\r\nConnection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\n\r\n"))
    assert client.wait_for(1) == [200]
    client.send(SMUGGLED)
    assert client.rest() == [200]


@pytest.mark.parametrize("target", [b"/%ff%fe", b"/\xff\xfe", b"http://other/healthz", b"*", b"/%00", b"//x"])
def test_odd_targets(connect: Connect, target: bytes) -> None:
    """Odd request targets are answered once, and the gateway stays up."""
    client = connect()
    client.send(b"GET " + target + b" HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
    (status,) = client.rest()
    assert status in {200, 400, 404}
    assert (status == 200) == (target == b"http://other/healthz")


def test_error_after_a_request(connect: Connect) -> None:
    """A request that is being answered is answered although an invalid one follows."""
    client = connect()
    client.send(HEALTH + b"\x00garbage\r\n\r\n")
    assert client.rest() in ([200], [200, 400])


async def _large(_request: Request) -> Response:
    return Response(b"x" * 20_000_000)


async def _small(_request: Request) -> Response:
    return Response(b"x" * 40_000)


@contextmanager
def large_answers(limits: HttpLimits, send_buffer: int = 0) -> Iterator[Connect]:
    """Serve answers of 20 MB, more than the socket's buffers, and at ``/small`` of 40 KB."""
    app = Starlette(routes=[Route("/", _large), Route("/small", _small)])
    with (
        socket.create_server(("127.0.0.1", 0)) as listener,
        run_server(http_settings(app, limits), listener),
        connecting(listener.getsockname()[1]) as connect,
    ):
        if send_buffer:  # accepted sockets inherit it
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, send_buffer)
        yield connect


@pytest.mark.parametrize("ending", [b"", b"Connection: close\r\n"])
@pytest.mark.parametrize("pause", [PATIENCE, 0.1], ids=["stopped", "dripped"])
def test_slow_reader(ending: bytes, pause: float) -> None:
    """A client that does not take its answer, or takes it below the minimum rate, is disconnected."""
    with large_answers(replace(SHORT, rate=100_000_000)) as connect:
        client = connect()
        client.connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        client.send(b"GET / HTTP/1.1\r\nHost: localhost\r\n" + ending + b"\r\n")
        start, size = time.monotonic(), 0
        with suppress(ConnectionResetError):
            while time.monotonic() - start < 3:
                time.sleep(min(pause, 3))
                size += len(client.connection.recv(1))
            while chunk := client.connection.recv(65536):
                size += len(chunk)
        assert size < 20_000_000


def test_slow_reader_of_a_small_answer() -> None:
    """An answer below asyncio's own high-water mark is noticed as well."""
    limits = replace(SHORT, rate=100_000_000)
    with large_answers(limits, send_buffer=4096) as connect, socket.socket() as client:
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        client.connect(("127.0.0.1", connect().port))
        client.sendall(b"GET /small HTTP/1.1\r\nHost: localhost\r\n\r\n")
        time.sleep(3)
        size = 0
        with suppress(ConnectionResetError):
            while chunk := client.recv(65536):
                size += len(chunk)
        assert size < 40_000


def test_steady_reader() -> None:
    """A client above the minimum rate receives all of a long answer, and the next one."""
    with large_answers(replace(SHORT, rate=1_000_000)) as connect:
        client = connect()
        for _ in range(2):
            client.send(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")
            size, pauses, start = 0, 0, time.monotonic()
            while size < 20_000_000:
                chunk = client.connection.recv(65536)
                assert chunk, "the connection was closed"
                size += len(chunk)
                if size > pauses * 1_000_000:
                    pauses += 1
                    time.sleep(0.06)
            assert time.monotonic() - start > SHORT.answer_seconds
            client.has_ended(0.1)  # the rest of the head


FEW = replace(SHORT, connections=8, spare=3, spare_seconds=1, head_seconds=5)


def test_idle_connections_give_way(http_run: RunGateway, http_shared: Gateway) -> None:
    """At the limit, the longest idle connection is closed for a new one."""
    with http_run(http_shared.conninfo, limits=FEW) as gateway, connecting(gateway.port) as connect:
        clients = [connect() for _ in range(7)]
        busy = clients.pop(0)
        busy.send(b"GET /healthz HTTP/1.1\r\n")
        used = connect()
        for number in range(20):
            used.send(HEALTH)
            assert used.wait_for(number + 1)[-1] == 200
            clients.append(connect())
            visitor = connect()
            visitor.send(b"GET / HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
            assert visitor.rest() == [200]
        busy.send(b"Host: localhost\r\nConnection: close\r\n\r\n")
        assert busy.rest() == [200]
        assert clients[0].rest() == []


def test_too_many_busy_connections(
    http_run: RunGateway, http_shared: Gateway, caplog: pytest.LogCaptureFixture
) -> None:
    """When all connections are busy, health checks are answered 200 and all else 503; afterwards all is served."""
    with (
        caplog.at_level(logging.WARNING),
        http_run(http_shared.conninfo, limits=FEW) as gateway,
        connecting(gateway.port) as connect,
    ):
        clients = [connect() for _ in range(8)]
        for client in clients:
            client.send(b"GET /healthz HTTP/1.1\r\n")
        time.sleep(0.2)
        refused = connect()
        refused.send(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")
        assert refused.rest() == [503]
        assert_refusal(refused, 503, "SERVICE_UNAVAILABLE")
        assert b"\r\nretry-after: " in refused.received
        checked = connect()
        checked.send(HEALTH * 2)
        assert checked.rest() == [200]
        waiting = []
        for _ in range(3):
            waiting.append(connect())
            waiting[-1].send(b"GET /healthz HTTP/1.1\r\n")
            time.sleep(0.1)
        beyond = connect()
        assert beyond.rest() == [503]
        assert_refusal(beyond, 503, "SERVICE_UNAVAILABLE")
        assert [client.rest() for client in waiting] == [[408]] * 3  # after spare_seconds
        for client in clients:
            client.send(b"Host: localhost\r\nConnection: close\r\n\r\n")
            assert client.rest() == [200]
        assert gateway.get("/").status == 200
    assert "Connection limit reached: 8 are open" in caplog.text
