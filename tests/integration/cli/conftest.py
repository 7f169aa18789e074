"""Fixtures for tests of the command line, which is run as a process.

``place``        A home created by ``install``, engine ``postgres``, shared by all tests (session). Its admin, if it
                 has one, is ``admin``; its gateway may be running or not.
``running``      The same home with its gateway running in the background.
``stopped``      The same home with no process running.
``make_place``   Creates a minimal home without the installer, usually with the engine ``server``; fast.
``admin``        Name, email address and password of that admin.
All processes of a home are ended after the tests, even if they failed.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.support.cli_home import MakePlace, Place, write_minimal_home
from tests.support.ports import free_port

from mosaic_gateway.fs.files import make_directory
from mosaic_gateway.gateway.control import gateway_process
from mosaic_gateway.installation.layout import Home


@pytest.fixture(scope="session")
def _place_numbers() -> Iterator[int]:
    return itertools.count(1)


def _directory(parent: Path, numbers: Iterator[int]) -> Path:
    path = parent / f"c{next(numbers)}"
    make_directory(path)
    return path


@pytest.fixture(scope="session")
def place(
    ordinary_user: None, scratch_root: Path, postgres_bin: Path, _place_numbers: Iterator[int]
) -> Iterator[Place]:
    """A home created by ``install``."""
    path = _directory(scratch_root, _place_numbers) / "home"
    installed = Place(Home(path), free_port())
    words = ["install", "--port", str(installed.port), "--no-start", "--postgres-bin", str(postgres_bin)]
    try:
        installed.ask(*words)
        yield installed
    finally:
        installed.clear()


@pytest.fixture(scope="session")
def admin() -> dict[str, str]:
    """The admin of the shared home, once a test has created it."""
    return {"name": "Ada", "email": "ada@example.com", "password": "correct h\u00f6rse"}


@pytest.fixture
def running(place: Place) -> Place:
    """The installed home with its gateway running."""
    place.ask("start")
    return place


@pytest.fixture
def stopped(place: Place) -> Iterator[Place]:
    """The installed home with no process running, before and after the test."""
    gateway_process.stop(place.home)
    place.assert_nothing_runs()
    yield place
    try:
        gateway_process.stop(place.home)
        place.assert_nothing_runs()
    finally:
        place.clear()


@pytest.fixture
def make_place(
    request: pytest.FixtureRequest, scratch_root: Path, _place_numbers: Iterator[int]
) -> Iterator[MakePlace]:
    """Return a function that creates a home for the server *conninfo*; without one, the home has no usable database."""
    if request.node.get_closest_marker("root") is None:
        request.getfixturevalue("ordinary_user")
    created: list[Place] = []

    def make(conninfo: str | None = None, **settings: Any) -> Place:
        new = Place(Home(_directory(scratch_root, _place_numbers)), free_port())
        created.append(new)
        write_minimal_home(new, conninfo, **settings)
        return new

    yield make
    for home in created:
        home.clear()
