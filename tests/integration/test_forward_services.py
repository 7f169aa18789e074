"""Three services behind real nginx and Caddy, with TLS, configured as the how-to guide says."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any
from urllib.parse import quote, unquote

import pytest
from tests.support.browser import BROWSER, DRIVER, Page, chromium
from tests.support.forward_services import Relay, run_relay, run_services
from tests.support.http_gateway import Answer, Gateway, RunGateway
from tests.support.ports import free_port
from tests.support.reverse_proxies import (
    Certificate,
    Site,
    create_certificate,
    documented,
    documented_blocks,
    documented_settings,
    replaced,
    run_caddy,
    run_nginx,
)

from mosaic_gateway.auth import accounts
from mosaic_gateway.config import load_config
from mosaic_gateway.gateway.web_settings import WebSettings
from mosaic_gateway.installation.layout import Home
from mosaic_gateway.settings_file import write_settings

PAGE = "sign-in-once-for-your-services.md"
SERVICES = ("status", "wiki", "grafana")  # in the order of their ports in the guide, from 3001
NAMES = ("auth", *SERVICES)
ADMIN = {"name": "Ada Lövelace", "email": "ada@example.com", "password": "correct horse battery staple"}
SPOOFED = {
    "Remote-User": "root", "Remote-Email": "root@example.com", "Remote-Name": "Root", "Remote-Groups": "admin",
    "remote_user": "root", "REMOTE_GROUPS": "admin",
}  # fmt: skip
LARGE = 8 << 20  # bytes
EMPTY_FRAME = b"\x89\x80\0\0\0\0"  # a masked ping without content


@dataclass(frozen=True, slots=True)
class Behind:
    """A gateway and three services behind a proxy, and the relay between proxy and gateway."""

    gateway: Gateway
    relay: Relay
    sites: Mapping[str, Site]
    directory: Path

    def get(self, site: str, path: str = "/", *, method: str = "GET", cookie: str = "", **headers: str) -> Answer:
        """Send a request to a service."""
        sent = {**({"cookie": cookie} if cookie else {}), **headers}
        return self.sites[site].request(method, path, headers=sent)

    def sign_in(self, email: str) -> str:
        """Sign in and return the Cookie header of a browser."""
        body = {"email": email, "password": ADMIN["password"]}
        answer = self.sites["auth"].request(
            "POST", "/api/auth/sign-in/email", body, headers={"origin": self.sites["auth"].origin}
        )
        return "; ".join(value.split(";")[0] for value in answer.cookies if "Max-Age=0" not in value)


def nginx(
    directory: Path, port: int, services: Mapping[str, int], gateway: int, pem: Certificate
) -> AbstractContextManager[None]:
    """Run nginx as documented."""
    snippet, servers = documented_blocks(PAGE, "nginx")
    path = directory / "signed-in.conf"
    path.write_text(replaced(snippet, {"127.0.0.1:14242": f"127.0.0.1:{gateway}"}))
    changes = {
        "/etc/nginx/snippets/signed-in.conf": str(path), "127.0.0.1:14242": f"127.0.0.1:{gateway}",
        "listen 443 ssl": f"listen 127.0.0.1:{port} ssl", "/etc/ssl/example.com.pem": str(pem.certificate),
        "/etc/ssl/example.com.key": str(pem.key), **upstreams(services),
    }  # fmt: skip
    return run_nginx(directory, replaced(servers, changes), port)


def caddy(
    directory: Path, port: int, services: Mapping[str, int], gateway: int, pem: Certificate
) -> AbstractContextManager[None]:
    """Run Caddy as documented."""
    changes = {
        "127.0.0.1:14242": f"127.0.0.1:{gateway}", "/etc/ssl/example.com.pem": str(pem.certificate),
        "/etc/ssl/example.com.key": str(pem.key), **upstreams(services),
        **{f"\n{name}.example.com {{": f"\n{name}.example.com:{port} {{\n\tbind 127.0.0.1" for name in NAMES},
    }  # fmt: skip
    return run_caddy(directory, replaced(documented(PAGE, "caddyfile"), changes), port)


def upstreams(services: Mapping[str, int]) -> dict[str, str]:
    """Return the services' addresses in the guide, and those of the test."""
    return {f"127.0.0.1:{3001 + index}": f"127.0.0.1:{services[name]}" for index, name in enumerate(SERVICES)}


def settings(directory: Path, port: int) -> dict[str, Any]:
    """Return the fields of `WebSettings` of the documented config.toml, for sites on *port*."""
    home = Home(directory)
    home.config_file.write_text(documented(PAGE, "toml"))
    for name, value in documented_settings(PAGE).items():
        write_settings(home.config_file, {name: list(value) if isinstance(value, tuple) else value})
        load_config(home, flags={}, environ={})  # as ``config set`` does
    web = WebSettings.of(load_config(home, flags={}, environ={}))
    given = {field.name: getattr(web, field.name) for field in fields(web) if field.name != "local_url"}
    origins = tuple(f"{origin}:{port}" for origin in web.trusted_origins)
    return given | {"base_url": f"{web.base_url}:{port}", "trusted_origins": origins}


PROXIES = {"nginx": nginx, "caddy": caddy}


@contextmanager
def run(kind: str, directory: Path, conninfo: str, http_run: RunGateway) -> Iterator[Behind]:
    """Run the services, the gateway and the proxy *kind*, with an admin and a user."""
    port = free_port()
    hosts = [f"{name}.example.com" for name in NAMES]
    pem = create_certificate(directory, *hosts)
    sites = {name: Site(host, port, pem) for name, host in zip(NAMES, hosts, strict=True)}
    with (
        run_services(*SERVICES) as services,
        http_run(conninfo, **settings(directory, port)) as gateway,
        run_relay(gateway.port) as relay,
        PROXIES[kind](directory, port, services, relay.port, pem),
    ):
        headers = {"origin": sites["auth"].origin}
        body = {**ADMIN, "token": gateway.token()}
        assert sites["auth"].request("POST", "/api/bootstrap/setup", body, headers=headers).status == 201
        add_user(gateway)
        yield Behind(gateway, relay, sites, directory)


def add_user(gateway: Gateway) -> None:
    """Add the user Bob, who has the admin's password and no role."""
    gateway.sql(
        "INSERT INTO users (id, name, email, email_verified, role, banned, created_at, updated_at)"
        " VALUES ('bob', 'Bob', 'bob@example.com', false, 'user', false, now(), now())"
    )
    gateway.sql(
        "INSERT INTO accounts (id, account_id, provider_id, user_id, password, created_at, updated_at)"
        " SELECT 'bob', 'bob', 'credential', 'bob', password, now(), now() FROM accounts"
    )


@pytest.fixture(params=PROXIES)
def behind(
    request: pytest.FixtureRequest, tmp_path: Path, http_database: str, http_run: RunGateway
) -> Iterator[Behind]:
    """Three services behind nginx and Caddy in turn."""
    with run(request.param, tmp_path, http_database, http_run) as running:
        yield running


def received(answer: Answer) -> dict[str, str]:
    """Return the headers that a service received; those whose names differ in ``_`` and ``-`` count as one."""
    return {name.replace("_", "-"): value for name, value in answer.json["headers"]}


def test_three_services(behind: Behind) -> None:
    """Each service is open to whom the rules say, and receives who it is, never the session or a client's copy."""
    bob, ada = behind.sign_in("bob@example.com"), behind.sign_in("ada@example.com")
    (identity,) = behind.gateway.sql("SELECT id FROM users WHERE email = 'ada@example.com'")[0]
    for site, expected in {"status": (200, 200, 200), "wiki": (401, 200, 200), "grafana": (401, 403, 200)}.items():
        answers = [behind.get(site, "/a?b=%20c", cookie=cookie, **SPOOFED) for cookie in ("", f"x=1; {bob}; y=2", ada)]
        assert tuple(answer.status for answer in answers) == expected, site
        for answer in answers:
            if answer.status == 200:
                assert (answer.json["service"], answer.json["path"]) == (site, "/a?b=%20c")
                assert "better-auth" not in received(answer).get("cookie", "")
    as_bob = received(behind.get("wiki", cookie=f"x=1; {bob}; y=2", **SPOOFED))
    assert {name: as_bob[name] for name in as_bob if name.startswith("remote-")} == {
        "remote-user": "bob", "remote-email": "bob@example.com", "remote-name": "Bob", "remote-groups": "user",
    }  # fmt: skip
    assert {"x=1", "y=2"} < set(as_bob["cookie"].split("; "))
    as_ada = received(behind.get("grafana", cookie=ada))
    assert (as_ada["remote-user"], as_ada["remote-groups"]) == (identity, "admin")
    assert as_ada["remote-name"].encode("latin-1").decode() == ADMIN["name"]
    public = received(behind.get("status", cookie=ada, **SPOOFED))
    assert not any(value for name, value in public.items() if name.startswith("remote-"))


@pytest.mark.parametrize("count", [1, 4, 5])
def test_no_cookie_of_the_gateway_reaches_a_service(behind: Behind, count: int) -> None:
    """Several cookies of the gateway, wherever they are among others; nginx drops all if there are more than four."""
    bob = behind.sign_in("bob@example.com")
    session = next(pair for pair in bob.split("; ") if "session_token" in pair)
    further = ["better-auth.known_device=a", "better-auth.x=b", "__Secure-better-auth.extended=c", session]
    answer = behind.get("wiki", cookie="; ".join(["x=1", session, "y=2", *further[: count - 1]]))
    cookie = received(answer).get("cookie", "")
    assert (answer.status, "better-auth" in cookie) == (200, False)
    assert {"x=1", "y=2"} < set(cookie.split("; ")) or (count > 4 and not cookie)


def test_tokens_of_the_gateway_do_not_reach_a_service(behind: Behind, http_database: str) -> None:
    """Neither an API token nor a session's bearer token; what is for the service does, and other clients get 401."""
    made = accounts.create_token(http_database, email="bob@example.com", name="x", scopes=["forward"], days=1)
    bob = behind.sign_in("bob@example.com")
    session = next(pair.partition("=")[2] for pair in bob.split("; ") if "session_token" in pair)
    token = made.token.reveal()
    for value in (f"Bearer {token}", f"bearer   {token}", f"BEARER {session}", f"Bearer {unquote(session)}"):
        answer = behind.get("wiki", "/api/x", Authorization=value)
        assert (answer.status, received(answer)["remote-email"]) == (200, "bob@example.com")
        assert not received(answer).get("authorization"), value
    assert not received(behind.get("status", Authorization=f"Bearer {token}")).get("authorization")
    for value in ("Basic bWd3XzpiZWFyZXI=", "Bearer a.b.c", "Bearer x_mgw_y", f"Token {token[4:]}"):
        assert received(behind.get("wiki", cookie=bob, Authorization=value))["authorization"] == value
    assert behind.get("wiki", Authorization=f"Bearer {token}").status == 401


def test_a_refused_person_sees_why(behind: Behind) -> None:
    """A browser gets a page with the way to sign in with another account, and a program gets JSON, behind nginx too."""
    bob, auth = behind.sign_in("bob@example.com"), behind.sites["auth"]
    page = behind.get("grafana", "/a?b", cookie=bob, Accept="text/html")
    assert (page.status, page.headers["content-type"]) == (403, "text/html; charset=utf-8")
    assert "bob@example.com may not open grafana.example.com" in page.body.decode()
    assert f'<a href="{auth.origin}/">' in page.body.decode()
    for method in ("GET", "POST"):
        refused = behind.get("grafana", cookie=bob, method=method)
        assert (refused.status, refused.json["code"]) == (403, "FORBIDDEN")
    assert behind.get("grafana", "/gateway-check", cookie=bob).status in {403, 404}


def test_what_a_client_says_about_its_request_is_not_believed(behind: Behind) -> None:
    """Neither headers that a proxy sets, nor those that it is asked to drop, change which rule is asked for."""
    bob, status = behind.sign_in("bob@example.com"), behind.sites["status"]
    lies = {
        "X-Forwarded-Host": "status.example.com", "X-Forwarded-Uri": "/public", "X-Forwarded-Proto": "https",
        "X-Original-URL": f"{status.origin}/", "X-Original-Method": "GET", "X-Forwarded-For": "127.0.0.1",
        "X-Forwarded-Method": "GET", "Forwarded": "host=status.example.com",
    }  # fmt: skip
    for name, value in lies.items():
        assert behind.get("grafana", cookie=bob, **{name: value}).status == 403, name
        assert behind.get("wiki", **{name: value}).status in {401, 403}, name
        dropped = {"Connection": f"keep-alive, {name}"}
        assert behind.get("grafana", cookie=bob, **dropped).status == 403, name
    assert behind.get("grafana", **lies).status in {401, 403}
    assert behind.get("grafana", cookie=bob, **lies).status == 403
    without = behind.get("wiki", cookie=bob, Connection="keep-alive, Remote-User, Remote-Groups", **SPOOFED)
    assert received(without).get("remote-user", "bob") == "bob"
    assert received(without).get("remote-groups", "user") == "user"


@pytest.mark.parametrize("form", ["absolute", "host"])
def test_the_host_is_the_one_that_the_proxy_selected(behind: Behind, form: str) -> None:
    """A request line with one host and a Host header with another are judged by the host that is served."""
    grafana, status = behind.sites["grafana"], behind.sites["status"]
    target = f"{grafana.origin}/" if form == "absolute" else f"{status.origin}/"
    host = status if form == "absolute" else grafana
    answer = grafana.request("GET", target, headers={"host": f"{host.name}:{host.port}"})
    if answer.status == 200:
        assert answer.json["service"] == "status"
    else:
        assert answer.status in {400, 401, 403, 404, 421}


def test_paths_that_servers_read_differently(behind: Behind) -> None:
    """A path that might be another service's API is refused, whether or not the proxy resolves it."""
    bob = behind.sign_in("bob@example.com")
    assert behind.get("wiki", "/page", cookie=bob).status == 200
    for path in ("/x/..%2fapi/y", "/x/..;/api/y", "//api/y", "/%2561pi/y", "/API/y", "/api%5cy"):
        assert behind.get("wiki", path, cookie=bob).status in {400, 403}, path
    for path in ("/%00", "/a%0d%0aRemote-User:root", "/%c0%af"):
        assert behind.get("wiki", path, cookie=bob).status in {400, 403}, path


def test_a_large_body_is_not_sent_to_the_check(behind: Behind) -> None:
    """A service receives 8 MiB, of which the gateway sees nothing; without a session neither sees it."""
    bob, before = behind.sign_in("bob@example.com"), behind.relay.received
    answer = behind.sites["wiki"].request("POST", "/upload", raw=bytes(LARGE), headers={"cookie": bob})
    assert (answer.status, answer.json["body"], answer.json["method"]) == (200, LARGE, "POST")
    assert 0 < behind.relay.received - before < 8192


def test_websockets(behind: Behind) -> None:
    """An upgrade is checked as any request is, and then passes through to the service."""
    bob = behind.sign_in("bob@example.com")
    upgrade = {
        "Connection": "Upgrade", "Upgrade": "websocket", "Sec-WebSocket-Version": "13", "Sec-Fetch-Mode": "websocket",
        "Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ==", "Accept": "*/*",
    }  # fmt: skip
    assert behind.get("wiki", "/socket", **upgrade).status == 401
    assert behind.get("grafana", "/socket", cookie=bob, **upgrade).status == 403
    connection = behind.sites["wiki"].connection()
    connection.request("GET", "/socket", headers={**upgrade, "Cookie": bob})
    response = connection.getresponse()
    assert (response.status, response.headers["sec-websocket-accept"]) == (101, "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=")
    connection.sock.sendall(EMPTY_FRAME)
    assert connection.sock.recv(64) == EMPTY_FRAME
    connection.close()


@pytest.mark.slow
@pytest.mark.skipif(BROWSER is None or DRIVER is None, reason="Debian's chromium and chromium-driver are not installed")
def test_a_browser_signs_in_once_for_all_services(behind: Behind) -> None:
    """From a service to the sign-in page and back to where the person was; the next service asks no more."""
    wiki, grafana, auth = (behind.sites[name].origin for name in ("wiki", "grafana", "auth"))
    own = ("--host-resolver-rules=MAP *.example.com 127.0.0.1", "--ignore-certificate-errors")
    with chromium(behind.directory / "profile", *own) as browser:
        page = Page(browser, behind.gateway, None)
        browser.get(f"{wiki}/page/1?x=%20y&z")
        page.wait_visible("#sign-in")
        assert browser.current_url.startswith(f"{auth}/?return=")
        page.fill("#sign-in", email="bob@example.com", password=ADMIN["password"])
        page.click("Sign in", "#sign-in")
        page.wait_for("/page/1?x=%20y&z for Bob")
        assert browser.current_url == f"{wiki}/page/1?x=%20y&z"

        browser.get(f"{grafana}/")
        page.wait_for("bob@example.com may not open grafana.example.com")
        browser.get(f"{auth}/?return={quote(wiki, safe='')}/other")
        link = page.wait_visible("#view .verdict a")
        assert link.text.startswith("Continue to wiki.example.com")
        link.click()
        page.wait_for("/other for Bob")
        browser.get(f"{auth}/?return=https://evil.test/")
        page.wait_visible("#console")
        page.settle()
        assert "Continue to" not in page.text

        page.click("Sign out")
        page.wait_visible("#sign-in")
        browser.get(f"{wiki}/page/2")
        page.wait_visible("#sign-in")
        assert browser.current_url == f"{auth}/?return={quote(f'{wiki}/page/2', safe='')}"
