"""The pages in a real browser, from the set-up link to the signed-in user."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from selenium import webdriver
from selenium.webdriver.chrome.options import Options
from selenium.webdriver.chrome.service import Service
from selenium.webdriver.common.by import By
from selenium.webdriver.remote.webdriver import WebDriver
from selenium.webdriver.support.ui import WebDriverWait
from tests.support.http_gateway import Gateway

BROWSER, DRIVER = shutil.which("chromium"), shutil.which("chromedriver")
pytestmark = pytest.mark.skipif(
    BROWSER is None or DRIVER is None, reason="Debian's chromium and chromium-driver are not installed; .ci/run does"
)
LIMIT = 10.0  # seconds
ARGUMENTS = (
    "--headless=new", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-sync",
    "--disable-background-networking", "--disable-component-update", "--disable-dev-shm-usage", "--hide-scrollbars",
    "--window-size=900,860",
)  # fmt: skip
PASSWORD = "eine Brücke über den Fluß"


@pytest.fixture
def browser(tmp_path: Path) -> Iterator[webdriver.Chrome]:
    """A headless Chromium with a profile of its own."""
    options = Options()
    options.binary_location = str(BROWSER)
    for argument in (*ARGUMENTS, f"--user-data-dir={tmp_path / 'profile'}"):
        options.add_argument(argument)
    driver = webdriver.Chrome(options=options, service=Service(str(DRIVER)))
    yield driver
    driver.quit()


def fill(browser: WebDriver, **fields: str) -> None:
    """Type into the named fields."""
    for name, value in fields.items():
        element = browser.find_element(By.NAME, name)
        element.clear()
        element.send_keys(value)


def wait_for_text(browser: WebDriver, text: str) -> None:
    """Wait until *text* is visible."""

    def shown(driver: WebDriver) -> bool:
        return text in driver.find_element(By.TAG_NAME, "body").text

    WebDriverWait(browser, LIMIT).until(shown, f"{text!r} did not appear")


def url(gateway: Gateway, path: str) -> str:
    """Return the address of *path*."""
    return f"http://127.0.0.1:{gateway.port}{path}"


@pytest.mark.slow
def test_create_the_first_admin_and_sign_in(browser: webdriver.Chrome, http_gateway: Gateway) -> None:
    """Set-up with the link, after one invalid password; then sign-out, and sign-in with the password."""
    browser.get(url(http_gateway, f"/setup#token={http_gateway.token()}"))
    wait_for_text(browser, "Create the first admin")
    assert "token" not in browser.current_url

    fill(browser, name="Ada Lovelace", email="ada@example.com", password="short", repeat="short")
    browser.find_element(By.CSS_SELECTOR, "#setup button").click()
    WebDriverWait(browser, LIMIT).until(lambda driver: driver.find_element(By.ID, "password-error").text)
    assert http_gateway.sql("SELECT count(*) FROM users") == [(0,)]

    fill(browser, password=PASSWORD, repeat=PASSWORD)
    browser.find_element(By.CSS_SELECTOR, "#setup button").click()
    wait_for_text(browser, "Hello, Ada Lovelace")
    assert browser.current_url == url(http_gateway, "/")
    assert http_gateway.sql("SELECT email, role FROM users") == [("ada@example.com", "admin")]
    assert browser.execute_script("return document.cookie") == ""

    browser.find_element(By.ID, "sign-out").click()
    WebDriverWait(browser, LIMIT).until(lambda driver: driver.find_element(By.ID, "sign-in").is_displayed())
    fill(browser, email="ada@example.com", password=PASSWORD)
    browser.find_element(By.CSS_SELECTOR, "#sign-in button").click()
    wait_for_text(browser, "Hello, Ada Lovelace")
    log = browser.execute("getLog", {"type": "browser"})["value"]
    assert not [entry for entry in log if "Content Security Policy" in entry["message"]]


@pytest.mark.slow
def test_set_up_page_without_a_link(browser: webdriver.Chrome, http_gateway: Gateway) -> None:
    """Without a set-up token the page shows how to create a link, and no form."""
    browser.get(url(http_gateway, "/setup"))
    wait_for_text(browser, "mosaic-gateway bootstrap link")
    assert not browser.find_element(By.ID, "setup").is_displayed()
    browser.get(url(http_gateway, "/"))
    wait_for_text(browser, "There is no admin yet")
