"""Origin rules: the gateway answers as the real better-auth does, and trusts nothing that it does not."""

from __future__ import annotations

import http.client
import itertools
import json
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from tests.interop.drizzle import HERE, LIMIT
from tests.support.http_gateway import Answer, exchange, run_gateway
from tests.support.postgres_server import PostgresServer

from mosaic_gateway.gateway.origins import TrustedOrigins
from mosaic_gateway.migrations import Bundle, migrate
from mosaic_gateway.web_origin import Origin

BASE_URL = "https://gateway.example.com"
TRUSTED = ("https://app.example.com:8443", "https://*.example.org", "*.wild.example")
SIGN_IN, SIGN_OUT = "/api/auth/sign-in/email", "/api/auth/sign-out"
BODY = {"email": "invalid", "password": "x"}  # refused once the origin is accepted, without a password hash

ORIGINS = (
    None, "null", "", BASE_URL, f"{BASE_URL}/path", f"{BASE_URL}:443", "http://gateway.example.com", "https://evil.example",
    "https://app.example.com:8443", "https://app.example.com", "https://x.example.org", "http://x.example.org",
    "https://x.example.org.", "https://evil.example/.example.org", "http://a.wild.example", "http://a.wild.example:81",
    "/", "//gateway.example.com", "gateway.example.com",
)  # fmt: skip
FETCHES: tuple[dict[str, str], ...] = (
    {},
    {"sec-fetch-site": "cross-site", "sec-fetch-mode": "navigate", "sec-fetch-dest": "document"},
    {"sec-fetch-site": "cross-site", "sec-fetch-mode": "cors"},
    {"sec-fetch-site": "same-site", "sec-fetch-mode": "navigate"},
    {"sec-fetch-dest": " "},
    {"sec-fetch-mode": "cors"},
)
URLS = (
    "/", "/a?b=//c#d", "//evil.example", "/\\evil.example", "/\t/evil.example", "/%2fevil", "/a%5Cb", "/a?b=%2f",
    "/\x7f", "/ ",    BASE_URL, f"{BASE_URL}/a", f"{BASE_URL}.evil.example", "https://x.example.org/a?b",
    "https://evil.example/https://x.example.org", "https://evil.example", "javascript:alert(1)", "data:text/html,x",
    "a", "", "http://a.wild.example/x", "https://evil.example?.wild.example", "https://evil.example#.wild.example",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Peers:
    """better-auth and the gateway at their ports, with the same settings; ``process`` also answers `matches`."""

    process: subprocess.Popen[str]
    better_auth: int
    gateway: int

    def both(self, path: str, body: object, headers: dict[str, str]) -> list[tuple[int, object]]:
        """POST to better-auth and to the gateway, and return status and JSON of each."""
        answers = [self._post(port, path, body, headers) for port in (self.better_auth, self.gateway)]
        return [(answer.status, answer.json) for answer in answers]

    def matches(self, cases: list[tuple[str, str, bool]]) -> list[bool]:
        """Return better-auth's results for (url, pattern, whether paths are allowed)."""
        assert self.process.stdin
        assert self.process.stdout
        self.process.stdin.write(json.dumps(cases) + "\n")
        self.process.stdin.flush()
        results: list[bool] = json.loads(self.process.stdout.readline())
        return results

    def _post(self, port: int, path: str, body: object, headers: dict[str, str]) -> Answer:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=LIMIT)
        return exchange(connection, "POST", path, body, headers=headers)


@pytest.fixture(scope="module")
def peers(_modules: Path, postgres_server: PostgresServer) -> Iterator[Peers]:
    """Both, without users."""
    name = postgres_server.create_database(prefix="origins")
    with postgres_server.connect(name) as connection:
        for bundle in ("gateway", "storage"):
            migrate(Bundle.load(bundle), connection)
    command = ["node", str(HERE / "origins.mjs"), str(_modules), BASE_URL, *TRUSTED]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert process.stdin
    assert process.stdout
    with run_gateway(postgres_server.conninfo(name), base_url=BASE_URL, trusted_origins=TRUSTED) as gateway:
        yield Peers(process, int(process.stdout.readline()), gateway.port)
    process.stdin.close()
    assert process.wait(LIMIT) == 0
    process.stdout.close()


@pytest.mark.parametrize("path", [SIGN_IN, SIGN_OUT])
@pytest.mark.parametrize("cookie", [{}, {"cookie": "a=b"}])
def test_origins(peers: Peers, path: str, cookie: dict[str, str]) -> None:
    """The same status, code and message for every combination of Origin, Referer, Cookie and Sec-Fetch headers."""
    for name, origin, fetch in itertools.product(("origin", "referer"), ORIGINS, FETCHES):
        headers = {**cookie, **fetch, **({} if origin is None else {name: origin})}
        better_auth, gateway = peers.both(path, BODY, headers)
        assert gateway == better_auth, headers


@pytest.mark.parametrize("field", ["callbackURL", "redirectTo", "errorCallbackURL", "newUserCallbackURL"])
def test_urls(peers: Peers, field: str) -> None:
    """The same status, code and message for every URL to be sent to, and for values that are none."""
    values: list[Any] = [*URLS, 5, True, [], ["/"], {}]
    falsy = [] if field == "callbackURL" else [None, 0, False]  # the endpoint itself refuses that field's type
    for value in values + falsy:
        better_auth, gateway = peers.both(SIGN_IN, {**BODY, field: value}, {})
        assert gateway == better_auth, value


def test_nothing_is_trusted_that_better_auth_does_not_trust(peers: Peers) -> None:
    """For URLs of many parts and each kind of pattern: accepted here, accepted there; and canonical ones alike."""
    schemes = ("https://", "http://", "HTTPS://", "https:/", "https:\\\\", "//", "/", "", "javascript:", "ftp://")
    users = ("", "u@", "x.example.org@", "x.example.org\\@", "x.example.org#@")
    hosts = ("app.example.com", "x.example.org", "X.Example.org", "evil.example", "a.wild.example", "192.168.1.2",
             "192.168.evil.example", "[::1]", "0x7f.1", "x.example.org.", "x..example.org")  # fmt: skip
    rests = (
        "",
        ":8443",
        ":443",
        ":",
        ":0",
        "/",
        "/..",
        "?x.example.org",
        "#.example.org",
        "\t",
        " ",
        "/\\",
        "\x00",
        "%2f",
    )
    patterns = ("https://app.example.com", "https://app.example.com:8443", "https://*.example.org", "*.wild.example",
                "*.example.org:*", "http://192.168.*.*", "https://?.example.org")  # fmt: skip
    urls = ["".join(parts) for parts in itertools.product(schemes, users, hosts, rests)]
    for pattern in patterns:
        trusted = TrustedOrigins.of("", [pattern])
        theirs = peers.matches([(url, pattern, True) for url in urls])
        for url, accepted_there in zip(urls, theirs, strict=True):
            accepted = trusted.accepts_url(url)
            assert accepted_there or not accepted, (url, pattern)
            if Origin.of(url) is not None:
                assert accepted is accepted_there, (url, pattern)
