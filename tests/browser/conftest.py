"""Fixtures of the pages in Chromium; ``--pictures DIR`` writes the pictures of docs/images into DIR.

``chrome``   One Chromium for all tests of this process (session).
``run_page`` A function that opens a page on a gateway, with an empty browser.
``page``     Such a page on a gateway without users.
``console``  A page on a gateway with people, sessions and an audit log (module).
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from selenium import webdriver
from tests.support.browser import BROWSER, DRIVER, Page, chromium
from tests.support.http_gateway import Gateway, create_template, run_gateway
from tests.support.postgres_server import PostgresServer

RunPage = Callable[[Gateway], Page]


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add ``--pictures``."""
    parser.addoption("--pictures", type=Path, metavar="DIR", help="write pictures of the pages into DIR")


@pytest.fixture(scope="session")
def chrome(tmp_path_factory: pytest.TempPathFactory) -> Iterator[webdriver.Chrome]:
    """Run Chromium; skip if it is not installed."""
    if BROWSER is None or DRIVER is None:
        pytest.skip("Debian's chromium and chromium-driver are not installed; .ci/run does")
    with chromium(tmp_path_factory.mktemp("profile")) as driver:
        yield driver


@pytest.fixture(scope="session")
def axe() -> str | None:
    """The source of axe-core, None where there is no Node.js to install it."""
    directory = os.environ.get("MOSAIC_GATEWAY_TEST_BROWSER")
    file = Path(directory or "", "node_modules/axe-core/axe.min.js")
    return file.read_text(encoding="utf-8") if directory and file.is_file() else None


@pytest.fixture(scope="session")
def run_page(chrome: webdriver.Chrome, axe: str | None) -> RunPage:
    """Return a function that opens a page without cookies, stored data and log."""

    def run(gateway: Gateway) -> Page:
        page = Page(chrome, gateway, axe)
        gateway.sql("DELETE FROM rate_limits")
        page.cdp("Network.clearBrowserCookies")
        page.cdp("Emulation.setScriptExecutionDisabled", value=False)
        page.device()
        page.log()
        return page

    return run


@pytest.fixture(scope="session")
def http_template(postgres_server: PostgresServer) -> str:
    """Return the name of a template database with both schemas."""
    return create_template(postgres_server)


@pytest.fixture
def page(postgres_server: PostgresServer, http_template: str, run_page: RunPage) -> Iterator[Page]:
    """Open a page on a gateway of its own, without users."""
    database = postgres_server.create_database(template=http_template, prefix="browser")
    with run_gateway(postgres_server.conninfo(database)) as gateway:
        yield run_page(gateway)
