"""Debian's nginx and Caddy in front of a gateway, with TLS and a certificate of the test."""

from __future__ import annotations

import http.client
import os
import re
import shlex
import shutil
import socket
import ssl
import subprocess
import time
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from tests.support.http_gateway import Answer, exchange

from mosaic_gateway.config import LISTS, parsed

HOWTO = Path(__file__).resolve().parents[2] / "docs" / "howto"
LIMIT = 20.0  # seconds; time-out for a start
PATH = f"{os.environ.get('PATH', '')}:/usr/sbin"
NGINX = """\
daemon off;
{user}
worker_processes 1;
pid {directory}/nginx.pid;
error_log {directory}/error.log;
events {{ worker_connections 512; }}
http {{
    access_log off;
    {temporary}
    {servers}
}}
"""
TEMPORARY = ["client_body_temp_path", "proxy_temp_path", "fastcgi_temp_path", "uwsgi_temp_path", "scgi_temp_path"]
CADDY = """\
{{
	admin off
	auto_https disable_redirects
	storage file_system {directory}
}}
{sites}
"""


@dataclass(frozen=True, slots=True)
class Certificate:
    """A self-signed certificate and its key, PEM files."""

    certificate: Path
    key: Path


@dataclass(frozen=True, slots=True)
class Site:
    """https://*name*:*port*, served at 127.0.0.1 with *certificate*; its client has the address *client*."""

    name: str
    port: int
    certificate: Certificate
    client: str = "127.0.0.2"

    @property
    def origin(self) -> str:
        """The origin of the site's pages."""
        return f"https://{self.name}:{self.port}"

    def request(
        self, method: str, path: str, body: object = None, *, headers: Mapping[str, str] | None = None, raw: Any = None
    ) -> Answer:
        """Send one request as `Gateway.request` does, through TLS."""
        return exchange(self.connection(), method, path, body, headers=headers, raw=raw)

    def connection(self) -> http.client.HTTPSConnection:
        """Return a connection of the client, not yet opened."""
        context = ssl.create_default_context(cafile=self.certificate.certificate)
        connection = http.client.HTTPSConnection(self.name, self.port, timeout=LIMIT, context=context)

        def connect(_address: object, limit: float, _source: object = None) -> socket.socket:
            return socket.create_connection(("127.0.0.1", self.port), limit, (self.client, 0))

        vars(connection)["_create_connection"] = connect  # the name is in no DNS
        return connection


def documented(page: str, language: str) -> str:
    """Return the one block in *language* of the how-to *page*."""
    (block,) = documented_blocks(page, language)
    return block


def documented_blocks(page: str, language: str) -> list[str]:
    """Return the blocks in *language* of the how-to *page*."""
    text = (HOWTO / page).read_text(encoding="utf-8")
    return re.findall(rf"^```{language}\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)


def documented_settings(page: str) -> dict[str, Any]:
    """Return what the commands ``config set`` of the how-to *page* set, in their order."""
    commands = [shlex.split(line) for block in documented_blocks(page, "sh") for line in block.splitlines()]
    changes = [words[3:] for words in commands if words[:3] == ["mosaic-gateway", "config", "set"]]
    return {name: parsed(name, values if name in LISTS else values[0], page) for name, *values in changes}


def replaced(text: str, replacements: Mapping[str, str]) -> str:
    """Return *text* with each key replaced; each must occur."""
    for old, new in replacements.items():
        assert old in text, old
        text = text.replace(old, new)
    return text


def create_certificate(directory: Path, *names: str) -> Certificate:
    """Create a certificate for *names* in *directory* with openssl."""
    created = Certificate(directory / "certificate.pem", directory / "key.pem")
    alternatives = ",".join(f"DNS:{name}" for name in names)
    command = (
        "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 2 -subj /CN=test"
        f" -addext subjectAltName={alternatives} -keyout {created.key} -out {created.certificate}"
    )
    subprocess.run(command.split(), check=True, capture_output=True, timeout=LIMIT)
    return created


@contextmanager
def run_nginx(directory: Path, servers: str, *ports: int) -> Iterator[None]:
    """Run nginx with the ``server`` blocks *servers* until the context ends; it then listens on *ports*."""
    temporary = "\n".join(f"{name} {directory / name};" for name in TEMPORARY)
    user = "user root;" if os.geteuid() == 0 else ""
    configuration = directory / "nginx.conf"
    configuration.write_text(NGINX.format(directory=directory, user=user, temporary=temporary, servers=servers))
    with _running(
        directory, ["nginx", "-e", f"{directory}/error.log", "-p", str(directory), "-c", str(configuration)], ports
    ):
        yield


@contextmanager
def run_caddy(directory: Path, sites: str, *ports: int) -> Iterator[None]:
    """Run Caddy with the site blocks *sites* until the context ends; it then listens on *ports*."""
    configuration = directory / "Caddyfile"
    configuration.write_text(CADDY.format(directory=directory / "storage", sites=sites))
    homes = {name: str(directory) for name in ("HOME", "XDG_DATA_HOME", "XDG_CONFIG_HOME")}
    command = ["caddy", "run", "--config", str(configuration), "--adapter", "caddyfile"]
    with _running(directory, command, ports, homes):
        yield


@contextmanager
def _running(
    directory: Path, command: list[str], ports: tuple[int, ...], environment: Mapping[str, str] | None = None
) -> Iterator[None]:
    program = shutil.which(command[0], path=PATH)
    if program is None:
        pytest.skip(f"Debian's {command[0]} is not installed; .ci/run does")
    log = directory / f"{command[0]}.log"
    with log.open("wb") as output:
        process = subprocess.Popen(
            [program, *command[1:]], stdout=output, stderr=output, env={**os.environ, **(environment or {})}
        )
    try:
        _wait_for(process, ports, log)
        yield
    finally:
        process.terminate()
        process.wait(LIMIT)


def _wait_for(process: subprocess.Popen[bytes], ports: tuple[int, ...], log: Path) -> None:
    deadline = time.monotonic() + LIMIT
    for port in ports:
        while not _listens(port):
            assert process.poll() is None, log.read_text()
            assert time.monotonic() < deadline, f"port {port} did not open"
            time.sleep(0.02)


def _listens(port: int) -> bool:
    with closing(socket.socket()) as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0
