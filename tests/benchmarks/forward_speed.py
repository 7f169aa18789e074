"""The check of forward authentication and get-session, beside the real better-auth's get-session in the same run.

better-auth runs in Node.js on the gateway's database, with its secret and the same session. Ratios are computed within
each round. The latency at a fixed rate is counted from the time at which a request was due, not from when it was sent.
"""

from __future__ import annotations

import json
import os
import shutil
import statistics
import subprocess
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from measured_home import MeasuredHome
from psycopg.conninfo import conninfo_to_dict

from mosaic_gateway.engines import postgres
from mosaic_gateway.installation.layout import Home

INTEROP = Path(__file__).parents[1] / "interop"
SECONDS = 3.0  # of load for one figure
RATE = 1000  # requests a second
EMAIL = "bench@example.com"
SESSION, CHECK = "/api/auth/get-session", "/api/auth/forward"
SETTINGS = """
trusted_proxies = ["127.0.0.1"]

[[forward.rules]]
host = "status.example.com"
allow = "public"

[[forward.rules]]
host = "wiki.example.com"
path = "/api/*"
allow = "token"

[[forward.rules]]
host = "wiki.example.com"
allow = "signed-in"
"""
ASKED = {
    "X-Forwarded-For": "198.51.100.7",
    "X-Forwarded-Proto": "https",
    "X-Forwarded-Host": "wiki.example.com",
    "X-Forwarded-Uri": "/page/1?x=y",
    "X-Forwarded-Method": "GET",
}


def measure(scratch: Path, rounds: int, port: int) -> list[tuple[str, str, str]]:
    """Return lines of the table: what, measured, aim."""
    modules = Path(os.environ.get("MOSAIC_GATEWAY_TEST_INTEROP", INTEROP)) / "node_modules"
    if shutil.which("node") is None or not (modules / "better-auth").is_dir():
        return [
            ("forward authentication", "not measured: better-auth is not installed (tests/interop/install.py)", "-")
        ]
    home = MeasuredHome(scratch / "forward", port)
    home.install()
    try:
        with (home.path / "config.toml").open("a") as settings:
            settings.write(SETTINGS)
        home.call("restart")
        home.create_admin(name="Bench", email=EMAIL)
        cookie = home.sign_in(EMAIL)
        with _better_auth(home, modules) as peer:
            _require_user(peer, cookie)
            lines = [line for connections in (16, 64) for line in _ratios(home, peer, cookie, connections, rounds)]
        return [*lines, *(_at_a_rate(home, cookie, connections, rounds) for connections in (16, 64))]
    finally:
        home.purge()


def _ratios(
    home: MeasuredHome, peer: str, cookie: str, connections: int, rounds: int
) -> Iterator[tuple[str, str, str]]:
    ours: dict[str, list[float]] = {CHECK: [], SESSION: []}
    theirs = []
    for _ in range(rounds):
        theirs.append(_load(home, SESSION, cookie, connections, url=peer)["rps"])
        for path, speeds in ours.items():
            speeds.append(_load(home, path, cookie, connections)["rps"])
    for path, speeds in ours.items():
        ratio = statistics.median(one / other for one, other in zip(speeds, theirs, strict=True))
        value = f"{ratio:.1f} × ({statistics.median(speeds):,.0f}/s, {statistics.median(theirs):,.0f}/s)"
        yield f"`{path}`, {connections} connections, beside better-auth's get-session", value, "≥ 8 ×"


def _at_a_rate(home: MeasuredHome, cookie: str, connections: int, rounds: int) -> tuple[str, str, str]:
    results = [_load(home, CHECK, cookie, connections, rate=RATE) for _ in range(rounds)]
    p99, rps = (statistics.median(result[key] for result in results) for key in ("p99_ms", "rps"))
    return f"`{CHECK}` at {RATE:,}/s, {connections} connections", f"p99 {p99:.1f} ms ({rps:,.0f}/s)", "-"


def _require_user(peer: str, cookie: str) -> None:
    """Raise RuntimeError unless better-auth accepts the session: null would be measured as a fast response."""
    request = urllib.request.Request(f"{peer}{SESSION}", headers={"cookie": cookie})
    with urllib.request.urlopen(request, timeout=SECONDS) as answer:
        if json.load(answer)["user"]["email"] != EMAIL:
            raise RuntimeError(cookie)


def _load(home: MeasuredHome, path: str, cookie: str, connections: int, **options: Any) -> Any:
    headers = ASKED if path == CHECK else {}
    return home.load(path, cookie, seconds=SECONDS, connections=connections, headers=headers, **options)


@contextmanager
def _better_auth(home: MeasuredHome, modules: Path) -> Iterator[str]:
    """Run better-auth on the database of *home*; yield its URL."""
    conninfo = postgres.running_conninfo(Home(home.path))
    if conninfo is None:
        raise RuntimeError(home.path)
    given = conninfo_to_dict(conninfo)
    connection = {"host": given["host"], "port": int(str(given["port"])), "user": given["user"],
                  "database": given["dbname"], "options": "-c TimeZone=UTC"}  # fmt: skip
    script = Path(__file__).with_name("better_auth_peer.mjs")
    words = ["node", str(script), str(modules), json.dumps(connection), str(Home(home.path).auth_secret), home.url]
    with subprocess.Popen(words, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            yield f"http://127.0.0.1:{int(process.stdout.readline())}"
        finally:
            process.terminate()
