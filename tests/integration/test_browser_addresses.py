"""Sign-in in a real browser at every address of the gateway, and what a foreign page can do there."""

from __future__ import annotations

import html
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import psutil
import pytest
from selenium import webdriver
from selenium.webdriver.common.by import By
from selenium.webdriver.support.ui import WebDriverWait
from tests.support.browser import BROWSER, DRIVER, chromium
from tests.support.http_gateway import Gateway, RunGateway
from tests.support.proxied_gateway import NAME, PROXIES, run_proxied

pytestmark = [
    pytest.mark.skipif(
        BROWSER is None or DRIVER is None,
        reason="Debian's chromium and chromium-driver are not installed; .ci/run does",
    ),
    pytest.mark.slow,
]
LIMIT = 10.0  # seconds
OWN = f"{socket.gethostname().partition('.')[0].lower()}.local"
EVIL = "evil.example"
ARGUMENTS = (
    "--ignore-certificate-errors",
    f"--host-resolver-rules=MAP {NAME} 127.0.0.1, MAP {OWN} 127.0.0.1, MAP {EVIL} 127.0.0.1",
)
PERSON = {"name": "Ada Lovelace", "email": "ada@example.com", "password": "eine Brücke über den Fluß"}
SESSION = "fetch('/api/auth/get-session').then(r => r.json()).then(arguments[0], e => arguments[0](String(e)))"


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[webdriver.Chrome]:
    """A headless Chromium in which the names of this module are this machine."""
    with chromium(tmp_path_factory.mktemp("profile"), *ARGUMENTS) as driver:
        yield driver


@pytest.fixture
def gateway(http_database: str, http_run: RunGateway) -> Iterator[Gateway]:
    """A gateway with an admin that listens on every IPv4 address."""
    with http_run(http_database, host="0.0.0.0") as running:  # noqa: S104 - the test needs the machine's own address
        create_admin(running)
        yield running


def create_admin(gateway: Gateway) -> None:
    """Create the first admin, without a session."""
    assert gateway.post("/api/bootstrap/setup", PERSON, x_setup_token=gateway.token()).status == 201
    gateway.sql("DELETE FROM sessions")


def own_address() -> str:
    """Return an address of this machine by which others reach it; skip without one."""
    for addresses in psutil.net_if_addrs().values():
        for address in addresses:
            if address.family is socket.AF_INET and not address.address.startswith("127."):
                return str(address.address)
    pytest.skip("this machine has no IPv4 address but 127.0.0.1")


def sign_in(browser: webdriver.Chrome, origin: str) -> dict[str, Any]:
    """Sign in on the page at *origin*; return the session's cookie."""
    browser.get(f"{origin}/")
    browser.delete_all_cookies()
    browser.get(f"{origin}/")
    WebDriverWait(browser, LIMIT).until(lambda driver: driver.find_element(By.NAME, "email").is_displayed())
    browser.find_element(By.NAME, "email").send_keys(PERSON["email"])
    browser.find_element(By.NAME, "password").send_keys(PERSON["password"])
    browser.find_element(By.CSS_SELECTOR, "#sign-in button[type=submit]").click()
    WebDriverWait(browser, LIMIT).until(lambda driver: driver.execute_async_script(SESSION))
    assert browser.execute_async_script(SESSION)["user"]["email"] == PERSON["email"]
    (cookie,) = [cookie for cookie in browser.get_cookies() if cookie["name"].endswith("session_token")]
    return dict(cookie)


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "own address", OWN])
def test_every_address_works(browser: webdriver.Chrome, gateway: Gateway, host: str) -> None:
    """Without any setting, sign-in works at the address that is used, whichever of the machine's it is."""
    origin = f"http://{own_address() if host == 'own address' else host}:{gateway.port}"
    cookie = sign_in(browser, origin)
    assert (cookie["name"], cookie["secure"]) == ("better-auth.session_token", False)


@pytest.mark.parametrize("kind", PROXIES)
def test_behind_a_proxy(browser: webdriver.Chrome, http_database: str, kind: str, tmp_path: Path) -> None:
    """Sign-in works behind nginx and Caddy with TLS, and the cookie is one that only https sends."""
    with run_proxied(kind, tmp_path, http_database) as proxied:
        create_admin(proxied.gateway)
        cookie = sign_in(browser, proxied.site.origin)
    assert (cookie["name"], cookie["secure"]) == ("__Secure-better-auth.session_token", True)


def test_a_foreign_name(browser: webdriver.Chrome, gateway: Gateway) -> None:
    """Under a name that someone else has pointed at the machine, the gateway answers nothing but what to set."""
    browser.get(f"http://{EVIL}:{gateway.port}/")
    body = browser.find_element(By.TAG_NAME, "body").text
    assert f"This gateway does not know the address {EVIL}:{gateway.port}" in body
    assert f'base_url = "http://{EVIL}:{gateway.port}"' in body


@pytest.mark.parametrize("host", ["127.0.0.1", "own address"])
def test_a_form_on_a_foreign_page(browser: webdriver.Chrome, gateway: Gateway, host: str) -> None:
    """A form on another site signs no one in; a LAN address without https gets Origin, but no Sec-Fetch headers."""
    origin = f"http://{own_address() if host == 'own address' else host}:{gateway.port}"
    with foreign_page(f"{origin}/api/auth/sign-in/email") as page:
        browser.get(page)
        WebDriverWait(browser, LIMIT).until(lambda driver: driver.current_url.startswith(origin))
        answer = browser.find_element(By.TAG_NAME, "body").text
    expected = "CROSS_SITE_NAVIGATION_LOGIN_BLOCKED" if host == "127.0.0.1" else "INVALID_ORIGIN"
    assert expected in answer
    assert gateway.sql("SELECT count(*) FROM sessions") == [(0,)]


@contextmanager
def foreign_page(action: str) -> Iterator[str]:
    """Serve a page of `EVIL` that submits the credentials of `PERSON` to *action*; yield its address."""
    fields = "".join(f'<input name="{name}" value="{html.escape(PERSON[name])}">' for name in ("email", "password"))
    page = (
        f'<meta charset="utf-8"><form method="post" action="{action}">{fields}</form>'
        "<script>document.forms[0].submit()</script>"
    )

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("content-type", "text/html")
            self.end_headers()
            self.wfile.write(page.encode())

        def log_message(self, *_arguments: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"http://{EVIL}:{server.server_port}/"
        finally:
            server.shutdown()
            thread.join(LIMIT)
