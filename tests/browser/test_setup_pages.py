"""The set-up page in a real browser, from the link to the signed-in admin, and what it says of an invalid link."""

from __future__ import annotations

import pytest
from tests.support.browser import Page, check
from tests.support.console_data import ADMIN

PERSON = {"name": ADMIN["name"], "email": ADMIN["email"]}


def test_create_the_first_admin_and_sign_in(page: Page) -> None:
    """Set-up with the link, after one invalid password; then sign-out, and sign-in with the password."""
    page.open(f"/setup#token={page.gateway.token()}")
    page.wait_visible("#setup")
    assert "token" not in page.driver.current_url
    assert page.focused() == "name"

    page.fill("#setup", **PERSON, password="short", repeat="short")
    page.click("Create the account and sign in")
    page.wait_for("Use at least 8 characters.")
    assert page.focused() == "password"
    assert page.find("#password").get_attribute("aria-invalid") == "true"
    assert check(page) == []
    assert page.gateway.sql("SELECT count(*) FROM users") == [(0,)]

    page.fill("#setup", password=ADMIN["password"], repeat=ADMIN["password"])
    page.click("Create the account and sign in")
    page.wait_visible("#console")
    assert page.driver.current_url == page.url("/")
    assert page.gateway.sql("SELECT email, role FROM users") == [(ADMIN["email"], "admin")]
    assert page.driver.execute_script("return [document.cookie, sessionStorage.length]") == ["", 0]

    page.click("Sign out")
    page.wait_visible("#sign-in")
    page.sign_in(ADMIN["email"], ADMIN["password"])
    page.wait_for("Overview")
    assert page.log() == []


def test_reloaded_page_keeps_its_link(page: Page) -> None:
    """The token survives a reload of the page, and is forgotten when it turns out not to be valid."""
    page.open(f"/setup#token={page.gateway.token()}")
    page.wait_visible("#setup")
    page.driver.refresh()
    page.wait_visible("#setup")
    page.gateway.token()
    page.driver.refresh()
    page.wait_for("a newer one has replaced it")
    assert page.driver.execute_script("return sessionStorage.length") == 0


@pytest.mark.parametrize(
    ("prepare", "text"),
    [
        (None, "This page needs the set-up link."),
        ("replace", "a newer one has replaced it"),
        ("expire", "This link has expired: it was valid for 24 hours."),
        ("use", "so this link is used up"),
    ],
)
def test_link_that_is_not_valid_says_so_before_the_form(page: Page, prepare: str | None, text: str) -> None:
    """Instead of the form the page says what happened to the link and what to do."""
    token = page.gateway.token()
    if prepare == "replace":
        page.gateway.token()
    elif prepare == "expire":
        page.gateway.sql("UPDATE verifications SET expires_at = now() - interval '1 second'")
    elif prepare == "use":
        page.gateway.post("/api/bootstrap/setup", ADMIN, x_setup_token=token)
    page.open("/setup" if prepare is None else f"/setup#token={token}")
    page.wait_for(text)
    assert not page.find("#setup").is_displayed()
    assert page.find("#start").is_displayed() is (prepare == "use")
    assert ("mosaic-gateway bootstrap link" in page.text) is (prepare != "use")
    assert check(page) == []


def test_start_page_before_the_set_up(page: Page) -> None:
    """Without an admin the start page shows how to create a link."""
    page.open("/")
    page.wait_for("There is no admin yet")
    assert not page.find("#sign-in").is_displayed()
    assert check(page) == []


def test_without_javascript(page: Page) -> None:
    """Every page says that it needs JavaScript, and shows no form."""
    page.cdp("Emulation.setScriptExecutionDisabled", value=True)
    for path in ("/", "/people", "/setup", "/reset-password"):
        page.open(path)
        assert "needs JavaScript" in page.text
        assert not page.driver.execute_script("return [...document.forms].some((form) => form.checkVisibility())")


def test_missing_page(page: Page) -> None:
    """A path that does not exist gives a page with a way back."""
    page.open("/nope")
    page.wait_for("There is no such page")
    assert check(page) == []
    page.click("Go to the start page")
    page.wait_for("There is no admin yet")
