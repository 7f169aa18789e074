"""A gateway behind nginx or Caddy with TLS, both configured as the how-to guides say."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.support.http_gateway import Gateway, run_gateway
from tests.support.ports import free_port
from tests.support.reverse_proxies import (
    Certificate,
    Site,
    create_certificate,
    documented,
    documented_settings,
    replaced,
    run_caddy,
    run_nginx,
)

NAME = "gateway.example.com"
UPSTREAM = "127.0.0.1:14242"


@dataclass(frozen=True, slots=True)
class Proxied:
    """A gateway and its public address."""

    gateway: Gateway
    site: Site


@contextmanager
def nginx(
    directory: Path, port: int, upstream: str, certificate: Certificate, *, appends: bool = False, also: str = ""
) -> Iterator[None]:
    """Run nginx as documented; *upstream* is what follows ``http://`` in proxy_pass.

    *appends*: as documented for an nginx behind another proxy. *also* is a further ``server`` block.
    """
    sender = "$proxy_add_x_forwarded_for" if appends else "$remote_addr"
    servers = replaced(
        documented("https-with-nginx.md", "nginx"),
        {
            "    listen [::]:80;\n": "", "    listen [::]:443 ssl http2;\n": "",
            "listen 80;": f"listen 127.0.0.1:{free_port()};", "listen 443 ": f"listen 127.0.0.1:{port} ",
            "/etc/letsencrypt/live/gateway.example.com/fullchain.pem": str(certificate.certificate),
            "/etc/letsencrypt/live/gateway.example.com/privkey.pem": str(certificate.key),
            UPSTREAM: upstream, "$remote_addr": sender,
        },
    )  # fmt: skip
    with run_nginx(directory, servers + also, port):
        yield


@contextmanager
def caddy(directory: Path, port: int, upstream: str, certificate: Certificate) -> Iterator[None]:
    """Run Caddy as documented; *upstream* is the address of reverse_proxy."""
    tls = f"tls {certificate.certificate} {certificate.key}"
    changes = {f"{NAME} {{": f"{NAME}:{port} {{\n\tbind 127.0.0.1\n\t{tls}", UPSTREAM: upstream}
    with run_caddy(directory, replaced(documented("https-with-caddy.md", "caddyfile"), changes), port):
        yield


PROXIES: dict[str, Callable[[Path, int, str, Certificate], AbstractContextManager[None]]] = {
    "nginx": nginx,
    "caddy": caddy,
}


@contextmanager
def run_proxied(kind: str, directory: Path, conninfo: str, **settings: Any) -> Iterator[Proxied]:
    """Run a gateway behind the proxy *kind*, both as documented, with other *settings* of the gateway."""
    site = Site(NAME, free_port(), create_certificate(directory, NAME))
    guide = documented_settings(f"https-with-{kind}.md")
    assert guide.pop("base_url") == f"https://{NAME}"
    with (
        run_gateway(conninfo, base_url=site.origin, **(guide | settings)) as gateway,
        PROXIES[kind](directory, site.port, f"127.0.0.1:{gateway.port}", site.certificate),
    ):
        yield Proxied(gateway, site)
