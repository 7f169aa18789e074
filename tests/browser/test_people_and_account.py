"""People and My account in a real browser, over better-auth's endpoints, to the rows that change."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys
from tests.browser.conftest import RunPage
from tests.support.browser import Page, check
from tests.support.console_data import ADMIN, seed
from tests.support.http_gateway import Gateway, run_gateway
from tests.support.postgres_server import PostgresServer

NEW = {"name": "Katherine Johnson", "email": "katherine@example.com", "password": "a long password"}


@pytest.fixture(scope="module")
def template(postgres_server: PostgresServer, http_template: str) -> str:
    """Return the name of a database with people."""
    name = postgres_server.create_database(template=http_template, prefix="people")
    with run_gateway(postgres_server.conninfo(name)) as gateway:
        seed(gateway)
    return name


@pytest.fixture
def gateway(postgres_server: PostgresServer, template: str) -> Iterator[Gateway]:
    """Run a gateway on a copy of it."""
    database = postgres_server.create_database(template=template, prefix="people")
    with run_gateway(postgres_server.conninfo(database)) as running:
        yield running


@pytest.fixture
def people(gateway: Gateway, run_page: RunPage) -> Page:
    """Open People as the admin."""
    page = run_page(gateway)
    page.open("/people")
    page.sign_in(ADMIN["email"], ADMIN["password"])
    page.wait_for("Grace Hopper")
    return page


@pytest.fixture
def account(gateway: Gateway, run_page: RunPage) -> Page:
    """Open My account as the admin."""
    page = run_page(gateway)
    page.open("/account")
    page.sign_in(ADMIN["email"], ADMIN["password"])
    page.wait_for("this device")
    return page


def rows(page: Page) -> list[str]:
    """Return the first cell of each row of the table."""
    return [cell.text for cell in page.driver.find_elements(By.CSS_SELECTOR, "#view tbody tr td:first-child strong")]


@pytest.mark.slow
def test_search_and_pages(people: Page) -> None:
    """By name, by address, without a result; twenty on a page."""
    assert check(people) == []
    for text, found in (("hopper", ["Grace Hopper"]), ("alan@", ["Alan Turing"]), ("mallory@example", ["Mallory"])):
        people.fill("#view", search=text + Keys.ENTER)
        people.wait_for("1 person")
        people.wait_for(found[0])
        assert not people.driver.find_elements(By.CSS_SELECTOR, "nav.pager")
        assert rows(people) == found
    people.fill("#view", search="xyz" + Keys.ENTER)
    people.wait_for("No one matches this search.")
    people.gateway.sql(
        "INSERT INTO users (id, name, email, created_at) SELECT 'x' || n, 'Person ' || n, n || '@example.org', now()"
        " FROM generate_series(1, 30) AS n"
    )
    people.fill("#view", search="Person" + Keys.ENTER)
    people.wait_for("1 to 20 of 30")
    assert not people.find(".pager button").is_enabled()
    people.click("Next")
    people.wait_for("21 to 30 of 30")
    assert len(rows(people)) == 10
    people.click("Previous")
    people.wait_for("1 to 20 of 30")


@pytest.mark.slow
def test_create_a_person(people: Page) -> None:
    """Errors stay in the dialog; the new person can sign in."""
    people.click("Add a person")
    people.click("Add", "dialog")
    people.wait_for("Enter an e-mail address.")
    assert check(people) == []
    people.fill("dialog", **{**NEW, "email": "alan@example.com"})
    people.click("Add", "dialog")
    people.wait_for("Another person already has this e-mail address.")
    assert people.focused() == "new-email"
    people.fill("dialog", **NEW)
    people.click("Add", "dialog")
    people.wait_for("Katherine Johnson was added.")
    assert not people.driver.find_elements(By.TAG_NAME, "dialog")
    assert "Katherine Johnson" in rows(people)
    answer = people.gateway.post("/api/auth/sign-in/email", {"email": NEW["email"], "password": NEW["password"]})
    assert answer.json["user"]["role"] == "user"


def test_role_ban_sessions_and_removal(people: Page) -> None:
    """What the dialog of a person changes."""
    sql = people.gateway.sql
    people.click("Manage Grace Hopper")
    people.wait_for("Safari on iPhone")
    assert check(people) == []
    people.click("End the session of Safari on iPhone", "dialog")
    people.wait_for("Not signed in anywhere.")
    assert sql("SELECT count(*) FROM sessions WHERE user_id = 'u0'") == [(0,)]
    assert people.find("dialog [role=status]").text == "The session has ended."
    people.fill("dialog", role="user, editors!")
    people.click("Set roles", "dialog")
    people.wait_for("“editors!” cannot be a role: a role has letters, digits and _.:- only")
    assert people.focused() == "person-role"
    assert check(people) == []
    people.fill("dialog", role="admin, photographer")
    people.click("Set roles", "dialog")
    people.wait_for("Grace Hopper has the roles admin, photographer.")
    assert people.find("dialog [role=status]").text == "Grace Hopper has the roles admin, photographer."
    assert [tag.text for tag in people.driver.find_elements(By.CSS_SELECTOR, "dialog .person-facts .tag")] == [
        "admin", "photographer", "active",
    ]  # fmt: skip
    assert check(people) == []
    assert sql("SELECT role FROM users WHERE id = 'u0'") == [("admin,photographer",)]

    people.click("Ban", "dialog")
    people.fill("dialog:last-of-type", reason="Too loud")
    assert check(people) == []
    assert not people.find("dialog:first-of-type").is_displayed()
    people.click("Close", "dialog:last-of-type")
    assert people.wait_visible("dialog .person-facts").text.startswith("grace@example.com")
    people.click("Ban", "dialog")
    people.fill("dialog:last-of-type", reason="Too loud")
    people.click("Ban", "dialog:last-of-type")
    people.wait_for("Grace Hopper is banned.")
    assert people.find("#status").text == "Grace Hopper is banned."
    assert sql("SELECT banned, ban_reason FROM users WHERE id = 'u0'") == [(True, "Too loud")]
    people.click("Manage Grace Hopper")
    people.wait_for("Reason of the ban: Too loud")
    people.click("Lift the ban", "dialog")
    people.click("Lift the ban", "dialog:last-of-type")
    people.wait_for("Grace Hopper may sign in again.")
    people.click("Manage Grace Hopper")
    people.click("Remove", "dialog")
    people.click("Remove", "dialog:last-of-type")
    people.wait_for("Grace Hopper was removed.")
    assert sql("SELECT count(*) FROM users WHERE id = 'u0'") == [(0,)]
    assert people.log() == []


@pytest.mark.slow
def test_own_row(people: Page) -> None:
    """An admin cannot ban, demote or remove the own account there."""
    people.click("Manage Ada Lovelace")
    people.wait_for("This is you.")
    labels = [button.text for button in people.driver.find_elements(By.CSS_SELECTOR, "dialog button")]
    assert not {"Ban", "Remove", "Set roles"} & set(labels)
    people.wait_for("this device")
    sessions = [row.text for row in people.driver.find_elements(By.CSS_SELECTOR, "dialog .rows li")]
    assert [("this device" in text, text.endswith("End")) for text in sessions].count((True, False)) == 1
    assert all(text.endswith("End") for text in sessions if "this device" not in text)
    people.driver.switch_to.active_element.send_keys(Keys.ESCAPE)
    people.wait_for("Add a person")
    assert not people.driver.find_elements(By.TAG_NAME, "dialog")


def test_reset_link(people: Page) -> None:
    """The link of an admin leads to the page on which its person chooses a password, once."""
    people.click("Manage Grace Hopper")
    people.click("Create a reset link", "dialog")
    link = people.wait_visible(".secret code").text
    assert "It works once, and expires in 24 hours." in people.text
    assert check(people) == []
    people.driver.get(link)
    people.wait_visible("#reset")
    assert "token" not in people.driver.current_url
    people.driver.refresh()
    people.wait_visible("#reset")
    people.fill("#reset", password="a new password", repeat="another one")
    people.click("Set the password")
    people.wait_for("The two passwords differ.")
    assert check(people) == []
    people.fill("#reset", repeat="a new password")
    people.click("Set the password")
    people.wait_for("Your new password is set.")
    assert check(people) == []
    credentials = {"email": "grace@example.com", "password": "a new password"}
    assert people.gateway.post("/api/auth/sign-in/email", credentials).status == 200
    people.driver.get("about:blank")
    people.driver.get(link)
    people.wait_for("This link is not valid")
    assert not people.find("#reset").is_displayed()
    people.open("/reset-password")
    people.wait_for("This page needs a reset link.")
    assert check(people) == []


@pytest.mark.slow
def test_name_and_password(account: Page) -> None:
    """The name in the head of the page changes; a wrong present password is named at its field."""
    assert check(account) == []
    account.fill("#view", name="Ada King")
    account.click("Save")
    account.wait_for("Your name was saved.")
    assert account.find("#who").text == "Ada King"
    account.fill("#view", current="wrong", password="a new password", repeat="a new password")
    account.click("Change the password")
    account.wait_for("The password is wrong.")
    assert account.focused() == "current"
    account.fill("#view", current=ADMIN["password"])
    account.click("Change the password")
    account.wait_for("The password was changed.")
    assert account.gateway.sql(
        "SELECT count(*) FROM sessions JOIN users ON users.id = user_id WHERE email = %s", ADMIN["email"]
    ) == [(1,)]
    account.driver.refresh()
    account.wait_for("this device")


@pytest.mark.slow
def test_sessions(account: Page) -> None:
    """Other sessions can be ended, one or all; this device is marked."""
    assert "Safari on iPhone" in account.text
    account.click("Sign out", "#view .rows")
    account.wait_for("The session has ended.")
    account.gateway.post("/api/auth/sign-in/email", {"email": ADMIN["email"], "password": ADMIN["password"]})
    account.driver.refresh()
    account.wait_for("Sign out everywhere else")
    account.click("Sign out everywhere else", "#view .buttons")
    account.wait_for("You are signed out everywhere else.")
    assert len(account.driver.find_elements(By.CSS_SELECTOR, "#view .rows li")) == 1


def test_tokens(account: Page) -> None:
    """A token is shown once, works, and is refused when it was revoked."""
    account.click("Create a token")
    account.click("Create", "dialog")
    account.wait_for("Enter a name.")
    assert check(account) == []
    account.fill("dialog", name="backup script")
    scopes = account.driver.find_elements(By.CSS_SELECTOR, "dialog fieldset label")
    assert [scope.text.split(":")[0] for scope in scopes] == ["forward", "read", "admin"]
    account.click("Create", "dialog")
    account.wait_for("Choose at least one thing that the token may do.")
    account.find("dialog [name=scope-admin]").click()
    account.click("Create", "dialog")
    token = account.wait_visible(".secret code").text
    assert check(account) == []
    account.click("Close", "dialog")
    account.wait_for("backup script")
    assert token not in account.driver.page_source

    def status() -> int:
        return account.gateway.get("/api/auth/admin/list-users", authorization=f"Bearer {token}").status

    assert status() == 200
    account.click("Revoke backup script")
    account.click("Revoke", "dialog")
    account.wait_for("The token was revoked.")
    assert status() == 401
    assert "No tokens." in account.text


@pytest.mark.slow
def test_delete_the_own_account(account: Page) -> None:
    """With the password; the last admin is refused with the reason."""
    sql = account.gateway.sql
    account.click("Delete my account …")
    account.fill("dialog", password="wrong")
    account.click("Delete my account", "dialog")
    account.wait_for("The password is wrong.")
    assert check(account) == []
    sql("UPDATE users SET role = 'user' WHERE email <> %s", ADMIN["email"])
    account.fill("dialog", password=ADMIN["password"])
    account.click("Delete my account", "dialog")
    account.wait_for("last admin")
    sql("UPDATE users SET role = 'admin' WHERE id = 'u1'")
    account.click("Delete my account", "dialog")
    account.wait_visible("#sign-in")
    assert sql("SELECT count(*) FROM users WHERE email = %s", ADMIN["email"]) == [(0,)]
