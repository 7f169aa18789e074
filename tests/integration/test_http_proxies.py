"""The gateway behind Debian's nginx and Caddy with TLS, configured as the how-to guides say."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.support.http_gateway import RunGateway
from tests.support.ports import free_port
from tests.support.proxied_gateway import NAME, PROXIES, Proxied, nginx, run_proxied
from tests.support.reverse_proxies import Site, create_certificate

SETUP, SIGN_IN = "/api/bootstrap/setup", "/api/auth/sign-in/email"
PERSON = {"name": "Ada", "email": "ada@example.com", "password": "correct horse battery staple"}
SPOOFED = {"x-forwarded-for": "203.0.113.9", "x-forwarded-host": "evil.example", "x-forwarded-proto": "http",
           "forwarded": "for=203.0.113.9;host=evil.example;proto=http"}  # fmt: skip


@pytest.fixture(params=PROXIES)
def proxied(request: pytest.FixtureRequest, tmp_path: Path, http_database: str) -> Iterator[Proxied]:
    """A gateway behind nginx and Caddy in turn."""
    with run_proxied(request.param, tmp_path, http_database) as running:
        yield running


def test_sign_in_behind_a_proxy(proxied: Proxied) -> None:
    """Cookies are Secure, every response has HSTS, and sessions have the client's address, whatever a client sends."""
    gateway, site = proxied.gateway, proxied.site
    headers = {**SPOOFED, "origin": site.origin}
    created = site.request("POST", SETUP, {**PERSON, "token": gateway.token()}, headers=headers)
    assert created.status == 201
    assert created.cookies[0].startswith("__Secure-better-auth.session_token=")
    assert "; Secure;" in created.cookies[0]
    signed_in = site.request("POST", SIGN_IN, PERSON, headers={"origin": site.origin})
    assert signed_in.status == 200
    assert gateway.sql("SELECT ip_address FROM sessions") == [("127.0.0.2",)] * 2
    for path in ("/", "/api/auth/get-session", "/healthz", "/nope", "/api/auth/nope"):
        answer = site.request("GET", path, headers={**SPOOFED, "cookie": signed_in.cookie})
        assert answer.headers["strict-transport-security"] == "max-age=31536000"
        assert answer.status in {200, 404}
    session = site.request("GET", "/api/auth/get-session", headers={"cookie": signed_in.cookie})
    assert session.json["user"]["email"] == PERSON["email"]
    assert "strict-transport-security" not in gateway.get("/").headers  # plain HTTP


def test_foreign_origins_behind_a_proxy(proxied: Proxied) -> None:
    """Only the public origin is trusted; a client cannot add one with forwarding headers."""
    for origin in ("https://evil.example", "http://evil.example", f"http://{NAME}", "null"):
        answer = proxied.site.request("POST", SIGN_IN, PERSON, headers={**SPOOFED, "origin": origin})
        assert (answer.status, answer.json["code"]) == (
            403,
            "MISSING_OR_NULL_ORIGIN" if origin == "null" else "INVALID_ORIGIN",
        )


@pytest.mark.parametrize("kind", PROXIES)
def test_a_proxy_that_is_not_trusted(
    kind: str, tmp_path: Path, http_database: str, caplog: pytest.LogCaptureFixture
) -> None:
    """Without trusted_proxies the address is the proxy's, sign-in works, and the log says once what to set."""
    with run_proxied(kind, tmp_path, http_database, trusted_proxies=()) as proxied:
        body = {**PERSON, "token": proxied.gateway.token()}
        assert proxied.site.request("POST", SETUP, body, headers={"origin": proxied.site.origin}).status == 201
        answer = proxied.site.request("POST", SIGN_IN, PERSON, headers={"origin": proxied.site.origin})
        assert (answer.status, "strict-transport-security" in answer.headers) == (200, False)
        assert proxied.gateway.sql("SELECT ip_address FROM sessions") == [("127.0.0.1",)] * 2
    (line,) = [record.getMessage() for record in caplog.records if "trusted_proxies" in record.getMessage()]
    assert line.startswith("Requests from 127.0.0.1 have x-forwarded-for, which is ignored")


def test_two_proxies(tmp_path: Path, http_database: str, http_run: RunGateway) -> None:
    """Behind two proxies that append, the address is the one that the outer saw, not one that its client sent."""
    inner, certificate = free_port(), create_certificate(tmp_path, NAME)
    site = Site(NAME, free_port(), certificate)
    with http_run(http_database, base_url=site.origin, trusted_proxies=("127.0.0.1/32",)) as gateway:
        also = (
            f"server {{ listen 127.0.0.1:{inner}; location / {{ proxy_pass http://127.0.0.1:{gateway.port};"
            " proxy_set_header Host $http_host; proxy_set_header X-Forwarded-For $proxy_add_x_forwarded_for; } }"
        )
        with nginx(tmp_path, site.port, f"127.0.0.1:{inner}", certificate, appends=True, also=also):
            headers = {**SPOOFED, "origin": site.origin}
            answer = site.request("POST", SETUP, {**PERSON, "token": gateway.token()}, headers=headers)
        assert (answer.status, "strict-transport-security" in answer.headers) == (201, True)
        assert gateway.sql("SELECT ip_address FROM sessions") == [("127.0.0.2",)]


def test_a_unix_socket_behind_nginx(tmp_path: Path, http_database: str, http_run: RunGateway) -> None:
    """The word ``unix`` trusts the proxy at a unix socket, which has no address."""
    path, certificate = tmp_path / "s", create_certificate(tmp_path, NAME)
    site = Site(NAME, free_port(), certificate)
    settings = {"base_url": site.origin, "unix_socket": path, "trusted_proxies": ("unix",)}
    with http_run(http_database, **settings) as gateway, nginx(tmp_path, site.port, f"unix:{path}", certificate):
        body = {**PERSON, "token": gateway.token()}
        answer = site.request("POST", SETUP, body, headers={**SPOOFED, "origin": site.origin})
        assert (answer.status, "strict-transport-security" in answer.headers) == (201, True)
        assert gateway.sql("SELECT ip_address FROM sessions") == [("127.0.0.2",)]
