"""A page in headless Chromium, as a person or a checker uses it."""

from __future__ import annotations

import base64
import re
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from selenium import webdriver
from selenium.common.exceptions import StaleElementReferenceException
from selenium.webdriver.chrome.options import Options
from selenium.webdriver.chrome.service import Service
from selenium.webdriver.common.by import By
from selenium.webdriver.remote.webelement import WebElement
from selenium.webdriver.support.ui import WebDriverWait
from tests.support.http_gateway import Gateway

BROWSER, DRIVER = shutil.which("chromium"), shutil.which("chromedriver")
LIMIT = 10.0  # seconds
ARGUMENTS = (
    "--headless=new", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-sync",
    "--disable-background-networking", "--disable-component-update", "--disable-dev-shm-usage", "--hide-scrollbars",
    "--window-size=1280,900",
)  # fmt: skip
#: What reaches beyond the width of the page or of the element that contains it, and pairs of controls that overlap.
OVERFLOW = """
const width = document.documentElement.clientWidth;
const seen = (node) => node.checkVisibility() && !node.closest('.hidden-label, thead');
return [...document.querySelectorAll('body *')].filter(seen).filter((node) => {
  const box = node.getBoundingClientRect();
  return box.width > 0 && (box.right > width + 0.5 || box.left < -0.5);
}).concat([...document.querySelectorAll('li, dd, td, th, p, button, a, section, label, .person')].filter(seen).filter(
  (node) => node.clientWidth && node.scrollWidth > node.clientWidth + 1)
).map((node) => node.outerHTML.slice(0, 120)).concat(
  document.documentElement.scrollWidth > width ? [`scrolls to ${document.documentElement.scrollWidth}`] : []);
"""
OVERLAP = """
const top = document.querySelector('dialog:last-of-type') ?? document;
const nodes = [...top.querySelectorAll('button, a, input, select, h1, h2, h3, label, td, p')]
  .filter((node) => node.checkVisibility() && !node.closest('.hidden-label, thead, svg'));
const together = (one, other) => one.contains(other) || other.contains(one) ||
  one.closest('.with-button') && one.closest('.with-button') === other.closest('.with-button');
const boxes = nodes.map((node) => [node, node.getBoundingClientRect()]).filter(([, box]) => box.width)
  .sort(([, a], [, b]) => a.top - b.top);
const found = [];
boxes.forEach(([one, a], index) => {
  for (const [other, b] of boxes.slice(index + 1)) {
    if (b.top >= a.bottom - 1) break;
    const across = Math.min(a.right, b.right) - Math.max(a.left, b.left);
    const down = Math.min(a.bottom, b.bottom) - b.top;
    if (across > 1 && down > 1 && !together(one, other))
      found.push(one.outerHTML.slice(0, 80) + ' / ' + other.outerHTML.slice(0, 80));
  }
});
return found;
"""
AXE = """
const done = arguments[arguments.length - 1];
const named = ({id, help, nodes}) => `${id}: ${help}: ${nodes.map(({html}) => html.slice(0, 200)).join(' | ')}`;
axe.run(document, {resultTypes: ['violations']}).then(
  ({violations}) => done(violations.map(named)), (error) => done([String(error)]));
"""


@contextmanager
def chromium(profile: Path, *further: str) -> Iterator[webdriver.Chrome]:
    """Run a headless Chromium with a *profile* of its own and *further* arguments, which override."""
    options = Options()
    options.binary_location = str(BROWSER)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    for argument in (*ARGUMENTS, f"--user-data-dir={profile}", *further):
        options.add_argument(argument)
    driver = webdriver.Chrome(options=options, service=Service(str(DRIVER)))
    driver.set_script_timeout(30)
    try:
        yield driver
    finally:
        driver.quit()


@dataclass(frozen=True, slots=True)
class Page:
    """The browser's page, on *gateway*; *axe* is the source of axe-core, or None."""

    driver: webdriver.Chrome
    gateway: Gateway
    axe: str | None

    def url(self, path: str) -> str:
        """Return the address of *path*."""
        return f"http://127.0.0.1:{self.gateway.port}{path}"

    def open(self, path: str) -> None:
        """Load *path*, also if only its fragment differs from the present one."""
        self.driver.get("about:blank")
        self.driver.get(self.url(path))

    @property
    def text(self) -> str:
        """The visible text."""
        return self.driver.find_element(By.TAG_NAME, "body").text

    def wait_for(self, text: str) -> None:
        """Wait until *text* is visible."""

        def shown(_driver: object) -> bool:
            try:
                return text in self.text
            except StaleElementReferenceException:
                return False

        WebDriverWait(self.driver, LIMIT, poll_frequency=0.05).until(shown, f"{text!r} did not appear")

    def find(self, selector: str) -> WebElement:
        """Return the element of a CSS *selector*."""
        return self.driver.find_element(By.CSS_SELECTOR, selector)

    def wait_visible(self, selector: str) -> WebElement:
        """Wait until the element of *selector* is visible, and return it."""

        def visible(_driver: object) -> bool:
            return any(one.is_displayed() for one in self.driver.find_elements(By.CSS_SELECTOR, selector))

        WebDriverWait(
            self.driver, LIMIT, poll_frequency=0.05, ignored_exceptions=[StaleElementReferenceException]
        ).until(visible, f"{selector} is not visible")
        return next(one for one in self.driver.find_elements(By.CSS_SELECTOR, selector) if one.is_displayed())

    def fill(self, scope: str = "", **fields: str) -> None:
        """Type into the named visible fields in the element *scope*."""
        for name, value in fields.items():
            field = self.wait_visible(f"{scope} [name={name}]")
            field.clear()
            field.send_keys(value)

    def click(self, text: str, scope: str = "") -> None:
        """Click the visible button or link that is labelled *text* in the element *scope*."""
        selector = f"{scope} button, {scope} a, {scope} summary"

        def found(_driver: object) -> WebElement | None:
            for one in reversed(self.driver.find_elements(By.CSS_SELECTOR, selector)):
                if one.is_displayed() and text in {one.text, one.get_attribute("aria-label")}:
                    return one
            return None

        WebDriverWait(
            self.driver, LIMIT, poll_frequency=0.05, ignored_exceptions=[StaleElementReferenceException]
        ).until(found, f"no {text!r} to click")
        element = found(None)
        assert element is not None
        element.click()

    def focused(self) -> str | None:
        """Return the id of the focused element."""
        return self.driver.switch_to.active_element.get_attribute("id")

    def settle(self) -> None:
        """Wait until no view is loading."""
        WebDriverWait(self.driver, LIMIT, poll_frequency=0.05).until(
            lambda driver: not driver.find_elements(By.CSS_SELECTOR, "[aria-busy]")
        )

    def sign_in(self, email: str, password: str) -> None:
        """Sign in on the page."""
        self.fill("#sign-in", email=email, password=password)
        self.click("Sign in", "#sign-in")
        self.wait_visible("#console")
        self.settle()

    def device(self, *, width: int = 1280, dark: bool = False) -> None:
        """Set the width in pixels and the colour scheme."""
        metrics = {"width": width, "height": 844 if width < 600 else 900, "deviceScaleFactor": 1, "mobile": width < 600}
        scheme = [{"name": "prefers-color-scheme", "value": "dark" if dark else "light"}]
        self.cdp("Emulation.setDeviceMetricsOverride", **metrics)
        self.cdp("Emulation.setEmulatedMedia", features=scheme)

    def cdp(self, command: str, **values: Any) -> Mapping[str, Any]:
        """Send a command of Chromium's DevTools protocol."""
        answer: Mapping[str, Any] = self.driver.execute_cdp_cmd(command, values)
        return answer

    def faults(self) -> list[str]:
        """Return what axe-core finds, what is outside of the page, and what covers something else."""
        found = [*self.driver.execute_script(OVERFLOW), *self.driver.execute_script(OVERLAP)]
        if self.axe is not None:
            self.driver.execute_script(self.axe)
            found += self.driver.execute_async_script(AXE)
        return found

    def log(self) -> list[str]:
        """Return the messages of the browser's log since the last call: errors of scripts, violations of the policy."""
        entries = self.driver.execute("getLog", {"type": "browser"})["value"]
        return [entry["message"] for entry in entries if not re.search(r"status of [45]\d\d", entry["message"])]

    def picture(self, file: Path) -> None:
        """Write a picture of the whole page as WebP."""
        shot = self.cdp("Page.captureScreenshot", format="webp", quality=80, captureBeyondViewport=True)
        file.write_bytes(base64.b64decode(shot["data"]))


def check(page: Page, *, whole: bool = False) -> list[str]:
    """Return the faults of *page*: wide and light, narrow and dark; *whole*: also the other two. Restore the device."""
    devices = [(1280, False), (390, True), *([(1280, True), (390, False)] if whole else [])]
    found = []
    for width, dark in devices:
        page.device(width=width, dark=dark)
        found += [f"{width} {'dark' if dark else 'light'}: {fault}" for fault in page.faults()]
    page.device()
    return found
