"""Put keep-alive load on one path of a running gateway; print requests per second, p50 and p99 as JSON.

    python http_load.py --url http://127.0.0.1:14242 --path /api/auth/get-session --cookie-file cookie.txt

The cookie file contains the value of a Cookie header, or is a jar that curl wrote with ``-c``. The load generator
is a separate process. On a small machine it shares the cores with the gateway and PostgreSQL, so the
numbers are lower than with a generator on another machine.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import statistics
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from urllib.parse import urlsplit

CONNECTIONS = 64
SECONDS = 5.0
WARM_UP = 1.0  # seconds that are not counted


@dataclass(slots=True)
class Tally:
    """Results of all connections: latencies in seconds, and number of responses by status."""

    counting: bool = False
    latencies: list[float] = field(default_factory=list)
    statuses: dict[str, int] = field(default_factory=dict)


class Caller(asyncio.Protocol):
    """One connection that sends *request* again after each response, but no earlier than every *interval* seconds.

    Latencies are counted from when a request was due: one that waits for a slow response before it counts that too.
    """

    def __init__(self, request: bytes, tally: Tally, interval: float = 0.0, delay: float = 0.0) -> None:
        self._request = request
        self._tally = tally
        self._interval = interval
        self._delay = delay
        self._timer: asyncio.TimerHandle | None = None
        self._buffer = b""
        self._due = 0.0
        self.closed: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Send the first request."""
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        self._due = time.perf_counter() + self._delay
        self._schedule()

    def data_received(self, data: bytes) -> None:
        """Count a complete response and send the next request."""
        self._buffer += data
        head, separator, body = self._buffer.partition(b"\r\n\r\n")
        if not separator or not _is_complete(head.lower(), body):
            return
        if self._tally.counting:
            self._tally.latencies.append(time.perf_counter() - self._due)
            status = head[9:12].decode()
            self._tally.statuses[status] = self._tally.statuses.get(status, 0) + 1
        self._buffer = b""
        self._due = self._due + self._interval if self._interval else time.perf_counter()
        self._schedule()

    def connection_lost(self, _error: Exception | None) -> None:
        """Mark this connection as closed."""
        if not self.closed.done():
            self.closed.set_result(None)

    def stop(self) -> None:
        """Abort the connection."""
        if self._timer is not None:
            self._timer.cancel()
        if self._transport is not None:
            self._transport.abort()

    def _schedule(self) -> None:
        wait = self._due - time.perf_counter()
        if wait > 0:
            self._timer = asyncio.get_running_loop().call_later(wait, self._send)
        else:
            self._send()

    def _send(self) -> None:
        assert self._transport is not None
        self._transport.write(self._request)


def _is_complete(head: bytes, body: bytes) -> bool:
    if b"transfer-encoding: chunked" in head:  # Node.js
        return body.endswith(b"0\r\n\r\n")
    start = head.index(b"content-length:") + len(b"content-length:")
    return len(body) >= int(head[start:].split(b"\r\n", 1)[0])


def _same(caller: Caller) -> Caller:
    return caller


async def load(
    url: str, path: str, *, cookie: str = "", headers: Sequence[str] = (), seconds: float = SECONDS,
    connections: int = CONNECTIONS, rate: int = 0,
) -> dict[str, object]:  # fmt: skip
    """Return requests per second, latencies in milliseconds and the count of each status.

    *rate* is the number of requests a second on all connections together, 0 for as many as are answered.
    """
    parts = urlsplit(url)
    fields = [*headers, *([f"Cookie: {cookie}"] if cookie else [])]
    lines = [f"GET {path} HTTP/1.1", f"Host: {parts.netloc}", *fields, "", ""]
    request, tally = "\r\n".join(lines).encode(), Tally()
    loop = asyncio.get_running_loop()
    interval = connections / rate if rate else 0.0
    callers = []
    for number in range(connections):
        caller = Caller(request, tally, interval, interval * number / connections)
        await loop.create_connection(partial(_same, caller), parts.hostname or "127.0.0.1", parts.port or 80)
        callers.append(caller)
    await asyncio.sleep(WARM_UP)
    tally.counting, start = True, time.perf_counter()
    await asyncio.sleep(seconds)
    tally.counting, elapsed = False, time.perf_counter() - start
    lost = sum(caller.closed.done() for caller in callers)
    for caller in callers:
        caller.stop()
    await asyncio.gather(*(caller.closed for caller in callers))
    return _report(path, tally, elapsed, lost, connections)


def _report(path: str, tally: Tally, elapsed: float, lost: int, connections: int) -> dict[str, object]:
    cuts = statistics.quantiles(tally.latencies, n=100) if len(tally.latencies) > 1 else [float("nan")] * 99
    return {
        "path": path,
        "connections": connections,
        "seconds": round(elapsed, 2),
        "requests": len(tally.latencies),
        "rps": round(len(tally.latencies) / elapsed, 1),
        "p50_ms": round(cuts[49] * 1000, 2),
        "p99_ms": round(cuts[98] * 1000, 2),
        "statuses": tally.statuses,
        "lost_connections": lost,
    }


def read_cookie(path: Path) -> str:
    """Return a Cookie header value from *path*: the value itself, or a curl cookie jar."""
    text = path.read_text(encoding="utf-8").strip()
    if not text.startswith("# Netscape"):
        return text
    rows = [line.removeprefix("#HttpOnly_").split("\t") for line in text.splitlines()]
    return "; ".join(f"{row[5]}={row[6]}" for row in rows if len(row) == 7)


def main() -> None:
    """Parse the arguments, run, and print one JSON object."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--url", default="http://127.0.0.1:14242")
    parser.add_argument("--path", default="/api/bootstrap/status")
    parser.add_argument("--cookie-file", type=Path)
    parser.add_argument("--seconds", type=float, default=SECONDS)
    parser.add_argument("--connections", type=int, default=CONNECTIONS)
    parser.add_argument("--rate", type=int, default=0, help="requests a second; 0: as many as are answered")
    parser.add_argument("--header", action="append", default=[], help='a further header, such as "X-Forwarded-Uri: /"')
    arguments = parser.parse_args()
    cookie = read_cookie(arguments.cookie_file) if arguments.cookie_file else ""
    result = asyncio.run(
        load(
            arguments.url, arguments.path, cookie=cookie, headers=arguments.header, seconds=arguments.seconds,
            connections=arguments.connections, rate=arguments.rate,
        )
    )  # fmt: skip
    print(json.dumps(result))


if __name__ == "__main__":
    main()
