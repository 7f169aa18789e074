"""The sign-in page in a real browser: what it says and where the focus is."""

from __future__ import annotations

import socket
from collections.abc import Iterator

import psutil
import pytest
from tests.browser.conftest import RunPage
from tests.support.browser import Page, check
from tests.support.console_data import ADMIN
from tests.support.http_gateway import Gateway, run_gateway
from tests.support.postgres_server import PostgresServer

EMAIL, PASSWORD = ADMIN["email"], ADMIN["password"]
#: Replaces the answer of the next sign-in.
ANSWER = """
const [status, body, headers] = arguments, real = window.realFetch ??= window.fetch;
const answer = () => Promise.resolve(new Response(JSON.stringify(body), {status, headers}));
window.fetch = (path, options) => path.includes('sign-in') ? answer() : real(path, options);
"""


@pytest.fixture(scope="module")
def admin_gateway(postgres_server: PostgresServer, http_template: str) -> Iterator[Gateway]:
    """Run a gateway with an admin."""
    database = postgres_server.create_database(template=http_template, prefix="browser")
    with run_gateway(postgres_server.conninfo(database)) as gateway:
        gateway.post("/api/bootstrap/setup", ADMIN, x_setup_token=gateway.token())
        yield gateway


@pytest.fixture
def sign_in(admin_gateway: Gateway, run_page: RunPage) -> Page:
    """Open the sign-in page of a gateway with an admin."""
    page = run_page(admin_gateway)
    page.open("/")
    page.wait_visible("#sign-in")
    return page


def attempt(page: Page) -> None:
    """Submit the form with a wrong password."""
    page.fill("#sign-in", email=EMAIL, password="wrong password")
    page.click("Sign in", "#sign-in")


def test_wrong_password(sign_in: Page) -> None:
    """The first field has the focus; after a wrong password the alert says so, and the password is selected."""
    assert sign_in.focused() == "email"
    alert = sign_in.find("#sign-in [role=alert]")
    assert alert.text == ""
    attempt(sign_in)
    sign_in.wait_for("The e-mail address or the password is wrong.")
    assert alert.text == "The e-mail address or the password is wrong."
    assert sign_in.focused() == "password"
    assert check(sign_in) == []
    sign_in.driver.switch_to.active_element.send_keys(PASSWORD)
    sign_in.click("Sign in", "#sign-in")
    sign_in.wait_visible("#console")
    assert sign_in.log() == []


def test_empty_fields(sign_in: Page) -> None:
    """Each empty field has a text that describes it, and no request is sent."""
    sign_in.click("Sign in", "#sign-in")
    sign_in.wait_for("Enter your e-mail address.")
    assert "Enter your password." in sign_in.text
    assert sign_in.focused() == "email"
    described = sign_in.find("#email").get_attribute("aria-describedby")
    assert sign_in.find(f"#{described}").text == "Enter your e-mail address."


def test_show_password(sign_in: Page) -> None:
    """The button shows and hides what was typed, by mouse and by keyboard."""
    sign_in.fill("#sign-in", password="geheim")
    button = sign_in.find("#sign-in .show")
    assert (button.get_attribute("aria-label"), button.get_attribute("aria-pressed")) == ("Show password", "false")
    button.click()
    assert sign_in.find("#password").get_attribute("type") == "text"
    assert button.get_attribute("aria-pressed") == "true"
    assert check(sign_in) == []
    button.send_keys(" ")
    assert sign_in.find("#password").get_attribute("type") == "password"


#: Status, code, headers, and a part of the text.
ERRORS: tuple[tuple[int, str | None, dict[str, str], str], ...] = (
    (429, None, {"x-retry-after": "7"}, "Too many attempts. Try again in 7 seconds."),
    (429, None, {"retry-after": "600"}, "Too many attempts. Try again in 10 minutes."),
    (503, "DATABASE_UNAVAILABLE", {"retry-after": "1"}, "Try again in 1 second."),
    (403, "BANNED_USER", {}, "This account is blocked."),
    (403, "INVALID_ORIGIN", {}, "mosaic-gateway config set trusted_origins http://127.0.0.1:"),
    (500, "INTERNAL", {}, "mosaic-gateway logs"),
    (400, "INVALID_EMAIL", {}, "Enter a valid e-mail address"),
)


def test_errors_in_plain_words(sign_in: Page) -> None:
    """What an error means and what to do, without codes."""
    for status, code, headers, text in ERRORS:
        sign_in.driver.execute_script(ANSWER, status, {"message": "Some English", "code": code}, headers)
        attempt(sign_in)
        sign_in.wait_for(text)
        assert str(code) not in sign_in.text


def test_gateway_that_does_not_answer(sign_in: Page) -> None:
    """A request that fails is said to be the gateway's absence."""
    sign_in.driver.execute_script("window.fetch = () => Promise.reject(new TypeError('failed'))")
    attempt(sign_in)
    sign_in.wait_for("The gateway does not answer.")


def test_session_that_ends(sign_in: Page) -> None:
    """The next request after the end of a session leads to the sign-in page, which says why."""
    sign_in.sign_in(EMAIL, PASSWORD)
    sign_in.gateway.sql("DELETE FROM sessions")
    sign_in.click("Activity", "nav")
    sign_in.wait_for("Your session has ended. Sign in again.")
    assert check(sign_in) == []
    sign_in.sign_in(EMAIL, PASSWORD)
    sign_in.wait_for("Export CSV")


@pytest.fixture
def secure_page(postgres_server: PostgresServer, http_template: str, run_page: RunPage) -> Iterator[Page]:
    """Open a page over http on a gateway whose base URL is https."""
    database = postgres_server.create_database(template=http_template, prefix="browser")
    conninfo = postgres_server.conninfo(database)
    with run_gateway(conninfo, base_url="https://gateway.example.com", host="0.0.0.0") as gateway:  # noqa: S104 - see below
        gateway.post("/api/bootstrap/setup", ADMIN, x_setup_token=gateway.token())
        page = run_page(gateway)
        yield page


def own_address() -> str:
    """Return an address of this machine by which others reach it; skip without one."""
    found = [one for addresses in psutil.net_if_addrs().values() for one in addresses if one.family is socket.AF_INET]
    for address in found:
        if not address.address.startswith("127."):
            return str(address.address)
    pytest.skip("this machine has no IPv4 address but those of the loopback interface")


def test_dropped_cookie(secure_page: Page) -> None:
    """A Secure cookie over http is refused by the browser: the page says why, instead of asking again."""
    # Chromium accepts Secure cookies from loopback addresses, so the page is opened at another of the machine.
    secure_page.driver.get(f"http://{own_address()}:{secure_page.gateway.port}/")
    secure_page.wait_visible("#sign-in")
    secure_page.fill("#sign-in", email=EMAIL, password=PASSWORD)
    secure_page.click("Sign in", "#sign-in")
    secure_page.wait_for("the gateway is set up for https")
    assert check(secure_page) == []
