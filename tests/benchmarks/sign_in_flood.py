"""Time sign-ins of one person while others flood the gateway with wrong passwords.

Run as a program, it is the flood, from one address, until it is terminated:

    python sign_in_flood.py --url http://127.0.0.1:14242 --connections 20
"""

from __future__ import annotations

import argparse
import asyncio
import http.client
import ipaddress
import json
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from urllib.parse import urlsplit

from http_load import Caller, Tally
from measured_home import PASSWORD, MeasuredHome

PATH = "/api/auth/sign-in/email"
CONNECTIONS = 20
ATTACKER = "127.0.0.9"
ADDRESSES = ipaddress.ip_network("127.16.0.0/12").hosts()
SETTLE = 1.0  # seconds
SIGN_INS = 10  # in a row; the median counts


def measure(home: MeasuredHome, email: str, rounds: int) -> list[tuple[str, str, str]]:
    """Return the rows of the table: the time of a sign-in under the flood beside that of one alone, in one round."""
    alone, flooded = [], []
    for _ in range(rounds):
        alone.append(_sign_in_seconds(home, email))
        with _flood(home.url):
            flooded.append(_sign_in_seconds(home, email))
    ratio = statistics.median(a / b for a, b in zip(flooded, alone, strict=True))
    value = (
        f"{statistics.median(flooded) * 1000:.0f} ms = {ratio:.1f} × alone ({statistics.median(alone) * 1000:.0f} ms)"
    )
    return [(f"sign-in from another address during a flood of {CONNECTIONS} connections", value, "≤ 3 ×")]


def _sign_in_seconds(home: MeasuredHome, email: str) -> float:
    return statistics.median(_timed_sign_in(home, email) for _ in range(SIGN_INS))


def _timed_sign_in(home: MeasuredHome, email: str) -> float:
    body = json.dumps({"email": email, "password": PASSWORD})
    source = (str(next(ADDRESSES)), 0)  # a new one each time, because the limit counts successes too
    start = time.perf_counter()
    with closing(http.client.HTTPConnection("127.0.0.1", home.port, timeout=60, source_address=source)) as connection:
        connection.request("POST", PATH, body, {"content-type": "application/json"})
        status = connection.getresponse().status
    if status != 200:
        raise RuntimeError(status)
    return time.perf_counter() - start


@contextmanager
def _flood(url: str) -> Iterator[None]:
    flood = subprocess.Popen([sys.executable, __file__, "--url", url])
    try:
        time.sleep(SETTLE)
        yield
    finally:
        flood.terminate()
        flood.wait()


async def flood(url: str, connections: int) -> None:
    """Send sign-ins with a wrong password, each connection for another account, without end."""
    parts, loop = urlsplit(url), asyncio.get_running_loop()
    for number in range(connections):
        body = json.dumps({"email": f"user{number}@example.com", "password": "wrong password"})
        head = f"POST {PATH} HTTP/1.1\r\nHost: {parts.netloc}\r\nContent-Type: application/json\r\n"
        request = f"{head}Content-Length: {len(body)}\r\n\r\n{body}".encode()
        await loop.create_connection(
            lambda request=request: Caller(request, Tally(), 0.0, 0.0),  # type: ignore[misc]
            parts.hostname or "", parts.port or 80, local_addr=(ATTACKER, 0),
        )  # fmt: skip
    await asyncio.Event().wait()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Flood the sign-in of a gateway")
    parser.add_argument("--url", required=True)
    parser.add_argument("--connections", type=int, default=CONNECTIONS)
    arguments = parser.parse_args()
    asyncio.run(flood(arguments.url, arguments.connections))
