"""The gateway's application behind a real HTTP server in a thread of the test process."""

from __future__ import annotations

import asyncio
import http.client
import ipaddress
import json
import socket
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, closing, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import psycopg
import uvicorn
from starlette.routing import BaseRoute
from tests.support.postgres_server import PostgresServer

from mosaic_gateway.auth import accounts
from mosaic_gateway.config import Secret
from mosaic_gateway.gateway.app import Services, create_app, make_pool
from mosaic_gateway.gateway.web_settings import WebSettings
from mosaic_gateway.installation.layout import Home
from mosaic_gateway.migrations import Bundle, migrate

SECRET = Secret("a secret of at least thirty-two characters")
LIMIT = 10.0  # seconds; time-out for operations that take milliseconds
ADDRESSES = ipaddress.ip_network("127.16.0.0/12").hosts()  # of the loopback interface
RunGateway = Callable[..., AbstractContextManager["Gateway"]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """A response: status, headers with lower-case names, Set-Cookie values in order, body."""

    status: int
    headers: Mapping[str, str]
    cookies: tuple[str, ...]
    body: bytes

    @property
    def json(self) -> Any:
        """The parsed body."""
        return json.loads(self.body)

    @property
    def cookie(self) -> str:
        """The Cookie header of a browser after this response."""
        return "; ".join(cookie.split(";")[0] for cookie in self.cookies)


def exchange(
    connection: http.client.HTTPConnection,
    method: str,
    path: str,
    body: object = None,
    *,
    headers: Mapping[str, str] | None = None,
    raw: Any = None,
) -> Answer:
    """Send one request as `Gateway.request` does, and close *connection*."""
    with closing(connection):
        sent = dict(headers or {})
        if body is not None:
            raw = json.dumps(body).encode()
            sent.setdefault("content-type", "application/json")
        connection.request(method, path, raw, sent, encode_chunked=True)
        response = connection.getresponse()
        content = response.read()
        fields = {key.lower(): value for key, value in response.getheaders()}
        cookies = tuple(response.headers.get_all("set-cookie") or ())
    return Answer(status=response.status, headers=fields, cookies=cookies, body=content)


@dataclass(frozen=True, slots=True)
class Gateway:
    """A running application at 127.0.0.1:*port* over the database *conninfo*, called from the *address*."""

    conninfo: str
    port: int
    address: str = "127.0.0.1"

    @property
    def origin(self) -> str:
        """The Origin that a browser sends on the gateway's own pages."""
        return f"http://127.0.0.1:{self.port}"

    def elsewhere(self) -> Gateway:
        """Return the same gateway for a client at an address that no other client has: the limits count addresses."""
        return replace(self, address=str(next(ADDRESSES)))

    def request(
        self, method: str, path: str, body: object = None, *, headers: Mapping[str, str] | None = None, raw: Any = None
    ) -> Answer:
        """Send one request; *body* is sent as JSON, *raw* unchanged: bytes, or an iterable sent in chunks."""
        return exchange(self.connection(), method, path, body, headers=headers, raw=raw)

    def connection(self) -> http.client.HTTPConnection:
        """Return a connection of the client, not yet opened."""
        return http.client.HTTPConnection("127.0.0.1", self.port, timeout=LIMIT, source_address=(self.address, 0))

    def get(self, path: str, **headers: str) -> Answer:
        """GET *path*."""
        return self.request("GET", path, headers=headers)

    def post(self, path: str, body: object = None, **headers: str) -> Answer:
        """POST *body* as JSON."""
        return self.request(
            "POST", path, body, headers={key.replace("_", "-"): value for key, value in headers.items()}
        )

    def sql(self, statement: str, *values: object) -> list[tuple[Any, ...]]:
        """Run *statement* on the gateway's database and return its rows."""
        with psycopg.connect(self.conninfo, autocommit=True) as connection:
            cursor = connection.execute(statement.encode(), values)
            return cursor.fetchall() if cursor.description else []

    def token(self) -> str:
        """Issue a set-up token."""
        return accounts.issue_setup_token(self.conninfo).token.reveal()


def create_template(server: PostgresServer) -> str:
    """Create a template database with both schemas on *server* and return its name."""
    name = server.create_database(prefix="http_template")
    with server.connect(name) as connection:
        for bundle in ("gateway", "storage"):
            migrate(Bundle.load(bundle), connection)
    return name


@contextmanager
def run_gateway(
    conninfo: str,
    *,
    base_url: str = "",
    host: str = "127.0.0.1",
    unix_socket: Path | None = None,
    home: Home | None = None,
    **settings: Any,
) -> Iterator[Gateway]:
    """Serve the application in a thread of this process, on *host* or on *unix_socket*.

    *settings* are further fields of `WebSettings`.
    """
    with _listener(host, unix_socket) as listener:
        port = 0 if unix_socket else listener.getsockname()[1]
        services = _services(conninfo, WebSettings(base_url=base_url or f"http://127.0.0.1:{port}", **settings), home)
        server = uvicorn.Server(
            uvicorn.Config(
                create_app(services), lifespan="on", ws="none", log_config=None, access_log=False, proxy_headers=False
            )
        )
        thread = threading.Thread(target=lambda: asyncio.run(server.serve(sockets=[listener])), name="gateway")
        thread.start()
        try:
            deadline = time.monotonic() + LIMIT
            while not server.started and thread.is_alive() and time.monotonic() < deadline:
                time.sleep(0.002)
            yield Gateway(conninfo, port)
        finally:
            server.should_exit = True
            thread.join(LIMIT)
            assert not thread.is_alive()


def routes() -> list[BaseRoute]:
    """Return the routes of the application."""
    return create_app(_services("", WebSettings(base_url="http://127.0.0.1"))).routes


def _services(conninfo: str, web: WebSettings, home: Home | None = None) -> Services:
    return Services(
        pool=make_pool(conninfo),
        auth_secret=SECRET,
        web=web,
        version="1.2.3",
        instance_id="an-instance",
        home=home,
    )


def _listener(host: str, unix_socket: Path | None) -> socket.socket:
    if unix_socket is None:
        return socket.create_server((host, 0), family=socket.AF_INET6 if ":" in host else socket.AF_INET)
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(str(unix_socket))
    return listener
