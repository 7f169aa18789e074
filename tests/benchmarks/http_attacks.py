"""Measure what the limits on connections cost, and how ``/healthz`` answers while a gateway is attacked.

    python http_attacks.py [--rounds N] [--seconds S]

Cost: requests per second of get-session with the gateway's protocol, divided by those with uvicorn's own, on the same
database in alternating turns. Attacks: each runs in a process of its own, of the lowest priority, because in earnest it
comes from another machine; p99 is divided by that of the idle gateway in the same round.
Not as root, since it starts PostgreSQL.
"""

from __future__ import annotations

import argparse
import asyncio
import http.client
import json
import os
import resource
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import psutil
import uvicorn
from http_load import WARM_UP, load
from migrations_server import DurableServer

from mosaic_gateway.auth import accounts
from mosaic_gateway.config import Secret
from mosaic_gateway.gateway.app import Services, create_app, make_pool
from mosaic_gateway.gateway.run.guarded_protocol import http_settings
from mosaic_gateway.gateway.run.http_limits import limits_for, raise_descriptor_limit
from mosaic_gateway.gateway.run.server import BACKLOG
from mosaic_gateway.gateway.web_settings import WebSettings
from mosaic_gateway.migrations import Bundle, migrate

SESSION = "/api/auth/get-session"
HEALTH = b"GET /healthz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"
JSON = b"Host: localhost\r\nContent-Type: application/json\r\nContent-Length: 1000\r\n\r\n"
BODY = b"POST /api/auth/sign-in/email HTTP/1.1\r\n" + JSON
DESCRIPTORS = 1024  # of the gateway
PAUSE = 0.005  # seconds between two measured requests
LIMIT = 20.0  # seconds


@dataclass(frozen=True, slots=True)
class Gateway:
    """A process that serves on *port*."""

    port: int
    process: psutil.Process

    @property
    def url(self) -> str:
        """Its address."""
        return f"http://127.0.0.1:{self.port}"


def main() -> int:
    """Measure, or run as one of the processes that are measured."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=3.0)
    parser.add_argument("--serve", choices=("plain", "guarded"), help=argparse.SUPPRESS)
    parser.add_argument("--attack", choices=sorted(ATTACKS), help=argparse.SUPPRESS)
    parser.add_argument("--conninfo", help=argparse.SUPPRESS)
    parser.add_argument("--port", type=int, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.serve:
        serve(arguments.serve, arguments.conninfo)
    elif arguments.attack:
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard) if soft < hard else (soft, hard))
        os.nice(19)
        ATTACKS[arguments.attack](arguments.port)
    else:
        for what, value, aim in measure(arguments.rounds, arguments.seconds):
            print(f"| {what} | {value} | {aim} |")
    return 0


def measure(rounds: int, seconds: float) -> Iterator[tuple[str, str, str]]:
    """Yield what was measured, the value, and the aim."""
    with tempfile.TemporaryDirectory(prefix="mosaic-bench-") as scratch:
        server = DurableServer(Path(scratch) / "server")
        with server.running():
            conninfo = server.conninfo(server.create_database())
            with server.connect("bench_1") as connection:
                for bundle in ("gateway", "storage"):
                    migrate(Bundle.load(bundle), connection)
            with serving("plain", conninfo) as plain, serving("guarded", conninfo) as guarded:
                cookie = create_session(conninfo, guarded.port)
                pairs = [cost(plain, guarded, cookie, seconds, number) for number in range(rounds)]
                name = f"`GET {SESSION}`, 64 connections, limited ÷ uvicorn's own protocol"
                yield f"{name}: per second", _median([pair[0] for pair in pairs]), "≥ 0.95"
                yield f"{name}: per second of processor time", _median([pair[1] for pair in pairs]), "≥ 0.95"
                for attack in ATTACKS:
                    ratios = [slow_down(attack, guarded.port, seconds) for _ in range(rounds)]
                    yield f"`GET /healthz` p99, {attack} ÷ idle", _median(ratios), "≤ 2"


def _median(ratios: Sequence[float]) -> str:
    return f"{statistics.median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f})"


def cost(plain: Gateway, guarded: Gateway, cookie: str, seconds: float, number: int) -> tuple[float, float]:
    """Return requests per second, and per second of processor time, of *guarded* divided by those of *plain*."""
    rates = {}
    for gateway in (plain, guarded) if number % 2 else (guarded, plain):
        before = sum(gateway.process.cpu_times()[:2])
        result = asyncio.run(load(gateway.url, SESSION, cookie=cookie, seconds=seconds))
        if result["statuses"] != {"200": result["requests"]}:
            raise RuntimeError(result)
        rate = float(str(result["rps"]))
        share = (sum(gateway.process.cpu_times()[:2]) - before) / (seconds + WARM_UP)
        rates[gateway.port] = (rate, rate / share)
    return rates[guarded.port][0] / rates[plain.port][0], rates[guarded.port][1] / rates[plain.port][1]


def slow_down(attack: str, port: int, seconds: float) -> float:
    """Return p99 of health checks during *attack* divided by that before it."""
    idle = p99_of_health(port, seconds)
    process = subprocess.Popen([sys.executable, __file__, "--attack", attack, "--port", str(port)])
    try:
        time.sleep(1)
        return p99_of_health(port, seconds) / idle
    finally:
        process.kill()
        process.wait()
        time.sleep(0.5)


def p99_of_health(port: int, seconds: float) -> float:
    """Return the 99th percentile of health checks, in seconds, each on a new connection."""
    latencies, end = [], time.perf_counter() + seconds
    while time.perf_counter() < end:
        start = time.perf_counter()
        with closing(socket.create_connection(("127.0.0.1", port), timeout=LIMIT)) as connection:
            connection.sendall(HEALTH)
            if not connection.recv(65536).startswith(b"HTTP/1.1 200"):
                raise RuntimeError("not 200")
        latencies.append(time.perf_counter() - start)
        time.sleep(PAUSE)
    return statistics.quantiles(latencies, n=100)[98]


def create_session(conninfo: str, port: int) -> str:
    """Create a user, and return the Cookie header of a session."""
    token = accounts.issue_setup_token(conninfo).token.reveal()
    person = {"name": "Bench", "email": "bench@example.com", "password": "correct horse battery staple"}
    with closing(http.client.HTTPConnection("127.0.0.1", port, timeout=LIMIT)) as connection:
        headers = {"content-type": "application/json", "x-setup-token": token}
        connection.request("POST", "/api/bootstrap/setup", json.dumps(person), headers)
        response = connection.getresponse()
        if response.status != 201:
            raise RuntimeError(response.read())
        return "; ".join(cookie.split(";")[0] for cookie in response.headers.get_all("set-cookie") or ())


@contextmanager
def serving(protocol: str, conninfo: str) -> Iterator[Gateway]:
    """Run a gateway in another process."""
    words = ["sh", "-c", f'ulimit -n {DESCRIPTORS} && exec "$@"', "sh", sys.executable, __file__]
    words += ["--serve", protocol, "--conninfo", conninfo]
    with subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as process:
        assert process.stdout is not None
        try:
            port = int(process.stdout.readline())
            yield Gateway(port, psutil.Process(process.pid))
        finally:
            process.kill()


def serve(protocol: str, conninfo: str) -> None:
    """Serve until killed; print the port."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        web = WebSettings(base_url=f"http://127.0.0.1:{port}")
        services = Services(
            pool=make_pool(conninfo), auth_secret=Secret("s" * 32), web=web, version="1", instance_id="bench"
        )
        settings = http_settings(create_app(services), limits_for(raise_descriptor_limit()))
        if protocol == "plain":
            settings.http = "httptools"
        asyncio.run(_serve(settings, listener))


async def _serve(settings: uvicorn.Config, listener: socket.socket) -> None:
    server = uvicorn.Server(settings)
    serving = asyncio.create_task(server.serve(sockets=[listener]))
    while not server.started:  # noqa: ASYNC110 - uvicorn has no event for it
        await asyncio.sleep(0.01)
    listener.listen(BACKLOG)  # as the product does
    print(listener.getsockname()[1], flush=True)
    await serving


def _large_headers(port: int) -> None:
    asyncio.run(_repeat(port, 8, b"GET / HTTP/1.1\r\nx: ", b"a" * 65536, 0))


def _idle_connections(port: int) -> None:
    asyncio.run(_repeat(port, 1100, b"", b"", 60))


def _dripped_headers(port: int) -> None:
    asyncio.run(_repeat(port, 800, b"GET / HTTP/1.1\r\nx: ", b"a", 1))


def _dripped_bodies(port: int) -> None:
    asyncio.run(_repeat(port, 800, BODY, b"a", 1))


def _invalid_requests(port: int) -> None:
    asyncio.run(_repeat(port, 8, b"\x00\r\n\r\n", b"", 0))


async def _repeat(port: int, count: int, first: bytes, then: bytes, pause: float) -> None:
    """Hold *count* connections that send *first*, and *then* again and again; reconnect when they are closed."""

    async def one() -> None:
        while True:
            with suppress(OSError):
                reader, writer = await asyncio.open_connection("127.0.0.1", port)
                writer.write(first)
                for _ in range(100_000_000 // max(1, len(then))):
                    writer.write(then)
                    await writer.drain()
                    with suppress(TimeoutError):
                        async with asyncio.timeout(pause or (None if not then else 0.0001)):
                            await reader.read(65536)
                    if reader.at_eof():
                        break
                writer.close()
            await asyncio.sleep(max(pause, 0.01))

    await asyncio.gather(*(one() for _ in range(count)))


ATTACKS: dict[str, Callable[[int], None]] = {
    "headers of 100 MB": _large_headers,
    "1,100 idle connections": _idle_connections,
    "800 dripped headers": _dripped_headers,
    "800 dripped bodies": _dripped_bodies,
    "invalid requests": _invalid_requests,
}

if __name__ == "__main__":
    sys.exit(main())
