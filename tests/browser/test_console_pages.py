"""The console in a real browser: what admins and other people see, on each view."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from selenium.webdriver.common.by import By
from tests.browser.conftest import RunPage
from tests.support.browser import Page, check
from tests.support.console_data import ADMIN, make_home, seed
from tests.support.http_gateway import Gateway, run_gateway
from tests.support.postgres_server import PostgresServer

from mosaic_gateway.forward_rules import ForwardRule

RULES = (
    ForwardRule(host="photos.example.com", name="Photos"),
    ForwardRule(host="git.example.com", path="/*", name="Code", allow="role:developer"),
    ForwardRule(host="*.example.com", name="Everything else"),
    ForwardRule(host="status.example.com"),
)


@pytest.fixture(scope="module")
def seeded(
    postgres_server: PostgresServer, http_template: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Gateway]:
    """Run a gateway with people, sessions, an audit log, a home and services."""
    database = postgres_server.create_database(template=http_template, prefix="browser")
    home = make_home(tmp_path_factory.mktemp("console") / "home")
    with run_gateway(postgres_server.conninfo(database), home=home, forward_rules=RULES) as gateway:
        seed(gateway)
        yield gateway


@pytest.fixture
def console(seeded: Gateway, run_page: RunPage) -> Page:
    """Sign in as the admin."""
    page = run_page(seeded)
    page.open("/")
    page.sign_in(ADMIN["email"], ADMIN["password"])
    return page


def test_overview(console: Page) -> None:
    """Tiles, the plot with a label and a table, doctor's finding with its hint, the services."""
    for text in ("1.2.3", "11 of 11", "2 days ago", "verified", "1 gateway", "disk space", "backup prune --keep 3"):
        assert text in console.text
    assert "sign-ins from" in str(console.find(".plot").get_attribute("aria-label"))
    assert len(console.driver.find_elements(By.CSS_SELECTOR, ".plot .bar")) >= 28
    console.click("As a table")
    assert "Day (UTC)" in console.text
    assert check(console) == []
    assert console.log() == []


def test_overview_names_what_needs_attention(console: Page, seeded: Gateway) -> None:
    """Without a backup and a run of doctor the page says so, with the commands."""
    answer = {
        "version": "1", "instanceId": None, "engine": "server", "uptime": 200_000, "gateways": 3, "backup": None,
        "database": {"version": "18.6", "size": 1234}, "schema": {"applied": 10, "of": 11}, "doctor": None,
        "disk": None,
        "signIns": {"days": [{"day": f"2026-01-{day:02}", "count": 0} for day in range(1, 31)], "complete": True},
        "notes": [{"text": "There is no backup.", "command": "mosaic-gateway backup create"}],
    }  # fmt: skip
    console.click("Activity", "nav")
    console.settle()
    console.driver.execute_script(
        "const [body] = arguments, real = fetch; window.fetch = (path, options) =>"
        " path === '/api/console/overview' ? Promise.resolve(new Response(body)) : real(path, options);",
        json.dumps(answer),
    )
    console.click("Overview", "nav")
    console.settle()
    shown = ("One thing needs attention", "mosaic-gateway backup create", "Not run yet", "2 d 7 h", "3 gateways")
    for text in (*shown, "No sign-ins in the last 30 days."):
        assert text in console.text
    assert not console.driver.find_elements(By.CSS_SELECTOR, ".plot")
    assert check(console) == []


def test_views_have_addresses(console: Page) -> None:
    """Each view has a path, a title, the focus on its heading, and works with back, forward and reload."""
    for name, path in (("People", "/people"), ("Activity", "/activity"), ("My account", "/account")):
        console.click(name, "nav")
        console.settle()
        assert console.driver.current_url == console.url(path)
        assert console.driver.title == f"{name} · mosaic-gateway"
        assert console.driver.switch_to.active_element.text == name
        assert console.find("nav [aria-current=page]").text == name
    console.driver.back()
    console.settle()
    assert console.find("#view h1").text == "Activity"
    console.driver.refresh()
    console.wait_for("Export CSV")
    assert console.find("#view h1").text == "Activity"
    assert console.log() == []


def test_activity(console: Page) -> None:
    """Entries in words, older ones on demand, filters, an export link with the filter."""
    console.click("Activity", "nav")
    console.settle()
    assert "failed to sign in" in console.text
    assert "50 entries, and older ones" in console.text
    assert check(console) == []
    console.click("Show older entries")
    console.wait_for("100 entries")
    console.fill(".filters", person="mallory")
    console.click("Filter")
    console.wait_for("1 entry")
    links = [link.get_attribute("href") for link in console.driver.find_elements(By.CSS_SELECTOR, "a[download]")]
    assert [str(link).split("?")[1] for link in links] == ["person=mallory&format=csv", "person=mallory&format=json"]
    console.fill(".filters", person="nobody at all")
    console.click("Filter")
    console.wait_for("No entries.")
    assert check(console) == []


def test_details_and_times_in_words(console: Page, seeded: Gateway) -> None:
    """A ban has its reason and end, a change its columns in words; times name the browser's zone."""
    for action, details in (
        ("user.ban", {"changed": ["ban_expires", "ban_reason"], "reason": "Spam", "until": "2026-12-01T10:00:00.000Z"}),
        ("user.ban", {"changed": ["banned"], "reason": "Noise", "until": None}),
        ("user.update", {"changed": ["email", "name"], "formerEmail": "old@example.com"}),
        ("token.create", {"name": "script", "userId": "u3", "scopes": ["forward", "read"]}),
    ):
        seeded.sql(
            "INSERT INTO audit_log (actor_id, action, target, details) VALUES ('u3', %s, 'u6', %s)",
            action, json.dumps(details),
        )  # fmt: skip
    console.cdp("Emulation.setTimezoneOverride", timezoneId="Asia/Kolkata")
    try:
        console.open("/activity")
        console.wait_for("Export CSV")
        console.settle()
        cells = [cell.text for cell in console.driver.find_elements(By.CSS_SELECTOR, ".details")]
        assert cells[:4] == [
            "name: script\nscopes: forward, read",
            "changed: e-mail, name\ne-mail before: old@example.com",
            "until: it is lifted\nreason: Noise",
            "until: Dec 1, 2026, 3:30 PM GMT+5:30\nreason: Spam",
        ]
        assert all("GMT+5:30" in cell.text for cell in console.driver.find_elements(By.CSS_SELECTOR, "td .when"))
        assert check(console) == []
    finally:
        console.cdp("Emulation.setTimezoneOverride", timezoneId="")
        seeded.sql("DELETE FROM audit_log WHERE actor_id = 'u3' AND action <> 'sign-in.succeeded'")


def test_narrow_screen(console: Page, seeded: Gateway) -> None:
    """The name in the head is whole, and all roles of a person stand beside their label."""
    seeded.sql("UPDATE users SET role = 'user,editors' WHERE id = 'u5'")
    console.device(width=390)
    try:
        console.click("People", "nav")
        console.settle()
        assert console.driver.execute_script(
            "const who = document.getElementById('who'); return who.scrollWidth <= who.clientWidth"
        )
        tags = console.driver.find_elements(By.CSS_SELECTOR, "td:has(.tag + .tag) .tag")
        assert [tag.text for tag in tags] == ["user", "editors"]
        assert tags[0].location["y"] == tags[1].location["y"]
        assert tags[0].location["x"] < tags[1].location["x"]
        assert console.faults() == []
    finally:
        console.device()
        seeded.sql("UPDATE users SET role = 'user' WHERE id = 'u5'")


def test_people_who_are_no_admins(seeded: Gateway, run_page: RunPage) -> None:
    """They see their services and their account; the paths of other views lead to the services."""
    page = run_page(seeded)
    seeded.sql("UPDATE users SET role = 'user' WHERE email = %s", ADMIN["email"])
    try:
        page.open("/people")
        page.sign_in(ADMIN["email"], ADMIN["password"])
        page.wait_for("Photos")
        links = page.driver.find_elements(By.CSS_SELECTOR, "#views a")
        assert [link.text for link in links] == ["Services", "My account"]
        services = page.driver.find_elements(By.CSS_SELECTOR, ".services a")
        assert [service.get_attribute("href") for service in services] == ["http://photos.example.com/"]
        assert check(page) == []
    finally:
        seeded.sql("UPDATE users SET role = 'admin' WHERE email = %s", ADMIN["email"])


def test_return_to_a_service(seeded: Gateway, run_page: RunPage) -> None:
    """After a sign-in the browser goes to the trusted page that asked for it; one that is signed in gets a link."""
    page = run_page(seeded)
    wanted = page.url("/account?from=service")
    page.open(f"/?return={wanted}")
    page.sign_in(ADMIN["email"], ADMIN["password"])
    page.wait_for("My account")
    assert page.driver.current_url == wanted
    page.open(f"/?return={wanted}")
    page.wait_for("Continue to 127.0.0.1")
    page.open("/?return=https://evil.example.com/")
    page.wait_for("Overview")
    page.settle()
    assert "Continue to" not in page.text


def test_text_from_the_database_is_text(console: Page, seeded: Gateway) -> None:
    """Names and details with markup are displayed as they are."""
    hostile = "<img src=x onerror=alert(1)><b>bold"
    seeded.sql("UPDATE users SET name = %s WHERE id = 'u6'", hostile)
    for view in ("People", "Activity"):
        console.click(view, "nav")
        console.settle()
        console.wait_for(hostile)
    assert console.driver.execute_script("return document.querySelectorAll('#view img, #view b').length") == 0
    assert console.log() == []
    seeded.sql("UPDATE users SET name = 'Mallory' WHERE id = 'u6'")


@pytest.mark.slow
def test_every_view_on_every_device(console: Page) -> None:
    """Both widths in both colour schemes."""
    for view in ("Overview", "People", "Activity", "My account"):
        console.click(view, "nav")
        console.settle()
        assert check(console, whole=True) == []


def test_pictures(console: Page, pytestconfig: pytest.Config) -> None:
    """With ``--pictures DIR``, the pictures of docs/images are written."""
    directory: Path | None = pytestconfig.getoption("--pictures")
    if directory is None:
        pytest.skip("writes pictures with --pictures DIR only")
    directory.mkdir(exist_ok=True)
    for view, name in (("Overview", "overview"), ("People", "people")):
        console.click(view, "nav")
        console.settle()
        console.find("#view h1").click()
        console.picture(directory / f"{name}.webp")
    console.click("Sign out")
    console.wait_visible("#sign-in")
    console.gateway.sql("DELETE FROM users")
    console.open(f"/setup#token={console.gateway.token()}")
    console.fill("#setup", name=ADMIN["name"], email=ADMIN["email"])
    console.picture(directory / "setup-page.webp")
