"""Fixtures for real installations, each with a separate home and port; see ``make_site`` in tests/conftest.py.

``site``            A new site without an installation.
``installed``       A site with a running installation, shared by the tests of a module, which only read.
``twice``           A serving site with a backup and later rows.
``open_directory``  An empty directory that every user can enter.
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.support.site import ACCOUNT, MakeSite, Site
from tests.support.site_database import add_mark


@pytest.fixture
def site(make_site: MakeSite) -> Iterator[Site]:
    """Return a new site, which is removed after the test."""
    created = make_site()
    yield created
    created.remove()


@pytest.fixture
def scratch(scratch: Path) -> Path:
    """Return an empty directory owned by the owner of the homes."""
    if ACCOUNT is not None:
        shutil.chown(scratch, ACCOUNT)
    return scratch


@pytest.fixture(scope="module")
def installed(make_site: MakeSite) -> Site:
    """Return a site with a running installation, which the tests of the module do not change."""
    created = make_site()
    created.first = created.install()
    assert created.first.code == 0, created.first.err
    return created


@pytest.fixture
def open_directory() -> Iterator[Path]:
    """Return an empty directory that every user can enter."""
    with tempfile.TemporaryDirectory(prefix="mosaic-o-") as name:
        Path(name).chmod(0o755)
        yield Path(name)


@pytest.fixture
def twice(site: Site) -> Site:
    """Return a serving site with a backup (rows ``then``) and later rows (``now``)."""
    site.installed()
    add_mark(site, "then")
    assert site.json("backup", "create").code == 0
    add_mark(site, "now")
    return site
