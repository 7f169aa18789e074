"""Services behind a reverse proxy that asks the gateway, and a relay that counts what the proxy sends to it."""

from __future__ import annotations

import base64
import hashlib
import json
import select
import socket
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from socketserver import BaseRequestHandler, TCPServer, ThreadingTCPServer

__all__ = ["Relay", "run_relay", "run_services"]

WEBSOCKET = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"  # RFC 6455
CHUNK = 1 << 16  # bytes


class _Service(BaseHTTPRequestHandler):
    """Responds with JSON of what it received, or with a page for a browser; echoes one WebSocket frame."""

    protocol_version = "HTTP/1.1"
    name = ""

    def handle_one_request(self) -> None:
        """Handle a request of any method in the same way."""
        self.raw_requestline = self.rfile.readline(CHUNK)
        if not self.raw_requestline or not self.parse_request():
            self.close_connection = True
        elif self.headers.get("upgrade") == "websocket":
            self._websocket()
        else:
            self._respond()

    def log_message(self, *_arguments: object) -> None:
        """Print nothing."""

    def _respond(self) -> None:
        received, length = 0, int(self.headers.get("content-length") or 0)
        while received < length:
            received += len(self.rfile.read(min(CHUNK, length - received)))
        headers = [[name.lower(), value] for name, value in self.headers.items()]
        request = {"method": self.command, "path": self.path, "headers": headers, "body": received}
        content = {"service": self.name, **request}
        body, kind = json.dumps(content).encode(), "application/json"
        if "text/html" in self.headers.get("accept", ""):
            user = self.headers.get("remote-name", "").encode("latin-1").decode()
            body, kind = f"<h1>{self.name}</h1><p>{self.path} for {user}</p>".encode(), "text/html; charset=utf-8"
        self.send_response(200)
        self.send_header("content-type", kind)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def _websocket(self) -> None:
        key = hashlib.sha1(self.headers["sec-websocket-key"].encode() + WEBSOCKET).digest()  # noqa: S324 - RFC 6455
        self.send_response(101)
        self.send_header("upgrade", "websocket")
        self.send_header("connection", "Upgrade")
        self.send_header("sec-websocket-accept", base64.b64encode(key).decode())
        self.end_headers()
        self.wfile.write(self.rfile.read(6))  # a masked empty frame
        self.close_connection = True


@contextmanager
def run_services(*names: str) -> Iterator[dict[str, int]]:
    """Run a service for each of *names*; yield its port. Their clients must have ended when the context ends."""
    with ExitStack() as stack:
        servers = {
            name: ThreadingHTTPServer(("127.0.0.1", 0), type(name, (_Service,), {"name": name})) for name in names
        }
        for server in servers.values():
            server.daemon_threads = False  # so that their end is awaited
            stack.enter_context(_serving(server))
        yield {name: server.server_address[1] for name, server in servers.items()}


class Relay(ThreadingTCPServer):
    """Passes connections on to *target*, a port, and counts the bytes that clients send."""

    def __init__(self, target: int) -> None:
        super().__init__(("127.0.0.1", 0), _Passage)
        self.target = target
        self.received = 0

    @property
    def port(self) -> int:
        """The port to connect to."""
        return int(self.server_address[1])


class _Passage(BaseRequestHandler):
    server: Relay

    def handle(self) -> None:
        with suppress(OSError), socket.create_connection(("127.0.0.1", self.server.target)) as upstream:
            other = {self.request: upstream, upstream: self.request}
            while True:
                for source in select.select(list(other), [], [])[0]:
                    data = source.recv(CHUNK)
                    if not data:
                        return
                    self.server.received += len(data) if source is self.request else 0
                    other[source].sendall(data)


@contextmanager
def run_relay(target: int) -> Iterator[Relay]:
    """Run a relay to the port *target* of this machine."""
    relay = Relay(target)
    with _serving(relay):
        yield relay


@contextmanager
def _serving(server: TCPServer) -> Iterator[None]:
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    try:
        yield
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
