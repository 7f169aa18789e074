"""Fixtures for upgrades between versions with real wheels.

``wheelhouse``  Wheels of several versions of the gateway, built from this tree, and of their dependencies (session).
``version``     Unpacks one of them, so that its command line can be run without installing it (session).
``seeded``      Creates homes of the old version, each with an admin, a session, insights with vectors and documents.

Tests marked ``lifecycle`` run only with ``pytest tests/lifecycle --lifecycle``.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from tests.lifecycle.old_home import Old, restore_saved_home, seeded_home
from tests.lifecycle.versions import CHANGES, OLD, PIP_LIMIT
from tests.lifecycle.wheels import build_wheel, pack_dependencies
from tests.support.ports import free_port
from tests.support.scratch import make_scratch


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the option, which exists only if tests/lifecycle is given on the command line."""
    parser.addoption("--lifecycle", action="store_true", help="also run the tests marked lifecycle")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Skip tests marked ``lifecycle`` without ``--lifecycle``."""
    if not config.getoption("--lifecycle", default=False):
        for item in items:
            if item.get_closest_marker("lifecycle") is not None:
                item.add_marker(pytest.mark.skip(reason="runs with tox -e lifecycle"))


@pytest.fixture(scope="session")
def wheelhouse(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a directory with the wheels of all versions of the gateway, and of their dependencies."""
    wheels, trees = tmp_path_factory.mktemp("wheelhouse"), tmp_path_factory.mktemp("trees")
    for version, changes in CHANGES.items():
        build_wheel(trees, wheels, version, *changes)
    pack_dependencies(wheels)
    return wheels


@pytest.fixture(scope="session")
def version(wheelhouse: Path, scratch_root: Path) -> Callable[[str], Path]:
    """Return a function that unpacks a version's wheel, once, into a directory for PYTHONPATH."""

    def unpack(name: str) -> Path:
        target = scratch_root / f"version-{name}"
        if not target.exists():
            wheel = wheelhouse / f"mosaic_gateway-{name}-py3-none-any.whl"
            words = ["-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-deps", "--target"]
            subprocess.run([sys.executable, *words, target, wheel], check=True, capture_output=True, timeout=PIP_LIMIT)
            target.chmod(0o755)
        return target

    return unpack


@pytest.fixture(scope="session")
def _template(ordinary_user: None, scratch_root: Path, version: Callable[[str], Path]) -> Iterator[Old]:
    """A stopped home of the old version with data in it, and a saved copy of it."""
    directory = make_scratch(scratch_root, "old")
    site = seeded_home(directory, version(OLD), free_port())
    yield site
    site.close()


@pytest.fixture
def seeded(_template: Old) -> Iterator[Callable[[], Old]]:
    """Yield a function that restores the seeded home of the old version, and starts it with its own program."""
    yield lambda: restore_saved_home(_template)
    _template.close()


@pytest.fixture
def old(seeded: Callable[[], Old]) -> Old:
    """Return a serving home of the old version."""
    return seeded()
