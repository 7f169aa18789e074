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
from dataclasses import dataclass, field
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
    """One connection that sends *request* again after each response."""

    def __init__(self, request: bytes, tally: Tally) -> None:
        self._request = request
        self._tally = tally
        self._buffer = b""
        self._sent = 0.0
        self.closed: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Send the first request."""
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        self._send()

    def data_received(self, data: bytes) -> None:
        """Count a complete response and send the next request."""
        self._buffer += data
        head, separator, body = self._buffer.partition(b"\r\n\r\n")
        if not separator or len(body) < _content_length(head):
            return
        if self._tally.counting:
            self._tally.latencies.append(time.perf_counter() - self._sent)
            status = head[9:12].decode()
            self._tally.statuses[status] = self._tally.statuses.get(status, 0) + 1
        self._buffer = b""
        self._send()

    def connection_lost(self, _error: Exception | None) -> None:
        """Mark this connection as closed."""
        if not self.closed.done():
            self.closed.set_result(None)

    def stop(self) -> None:
        """Abort the connection."""
        if self._transport is not None:
            self._transport.abort()

    def _send(self) -> None:
        assert self._transport is not None
        self._sent = time.perf_counter()
        self._transport.write(self._request)


def _content_length(head: bytes) -> int:
    lower = head.lower()
    start = lower.index(b"content-length:") + len(b"content-length:")
    return int(lower[start:].split(b"\r\n", 1)[0])


async def load(
    url: str, path: str, *, cookie: str = "", seconds: float = SECONDS, connections: int = CONNECTIONS
) -> dict[str, object]:
    """Return requests per second, latencies in milliseconds and the count of each status."""
    parts = urlsplit(url)
    lines = [f"GET {path} HTTP/1.1", f"Host: {parts.netloc}", *([f"Cookie: {cookie}"] if cookie else []), "", ""]
    request, tally = "\r\n".join(lines).encode(), Tally()
    loop = asyncio.get_running_loop()
    callers = [
        (await loop.create_connection(lambda: Caller(request, tally), parts.hostname or "127.0.0.1", parts.port or 80))[
            1
        ]
        for _ in range(connections)
    ]
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
    arguments = parser.parse_args()
    cookie = read_cookie(arguments.cookie_file) if arguments.cookie_file else ""
    result = asyncio.run(
        load(arguments.url, arguments.path, cookie=cookie, seconds=arguments.seconds, connections=arguments.connections)
    )
    print(json.dumps(result))


if __name__ == "__main__":
    main()
