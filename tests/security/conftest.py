"""Fixtures for attacks on root's installations. Only root can run these tests; each uses its own namespaces.

``ground``    The namespace in which machines are created (session).
``get_base``  Returns the installation for a kind of interpreter, which is created once for each kind (session).
``kind``      The kind of root's interpreter: accessible to the account, or not.
``attacked``  A fresh copy of such an installation, with the gateway stopped.
``watch``     Compares files and accounts with their state before the test.

``pytest tests/security --whole`` runs every combination; without it, a selection that covers each value of each
parameter.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import suppress
from functools import cache

import pytest
from tests.security.alternating import ALTERNATING, GetBase
from tests.security.installation import Base, Installation, Watch, make_base
from tests.security.interpreters import KINDS, InterpreterMissingError, interpreter_of
from tests.security.machine import Ground, NamespacesMissingError
from tests.security.planted import prepare


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add ``--whole``; pytest calls this only if tests/security is given on the command line."""
    with suppress(ValueError):  # tests/sweep adds it too
        parser.addoption("--whole", action="store_true", help="run every combination, not only a selection")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Deselect every other case of the tests that are `alternating`."""
    if config.getoption("--whole", default=False):
        return
    seen: dict[tuple[str, str], int] = {}
    deselected = []
    for item in items:
        if not isinstance(item, pytest.Function) or item.function.__qualname__ not in ALTERNATING:
            continue
        name, kind = item.function.__qualname__, str(item.callspec.params["kind"])
        number = seen[name, kind] = seen.get((name, kind), -1) + 1
        if KINDS[number % len(KINDS)] != kind:
            deselected.append(item)
    config.hook.pytest_deselected(items=deselected)
    items[:] = [item for item in items if item not in deselected]


@pytest.fixture(scope="session")
def whole(request: pytest.FixtureRequest) -> bool:
    """Whether ``--whole`` is given."""
    return bool(request.config.getoption("--whole", default=False))


@pytest.fixture(scope="session")
def ground() -> Iterator[Ground]:
    """The namespace in which machines are created."""
    if os.geteuid() != 0:
        pytest.skip("only root can run these tests")
    try:
        with Ground.prepared() as prepared:
            yield prepared
    except NamespacesMissingError as error:
        pytest.skip(f"root is not allowed to mount, as in an unprivileged container: {error}")


@pytest.fixture(scope="session")
def get_base(ground: Ground) -> GetBase:
    """Return a function that returns the installation for a kind of interpreter, or skips if there is none."""

    @cache
    def created(kind: str) -> Base | str:
        try:
            return make_base(ground, interpreter_of(kind, ground), prepare)
        except InterpreterMissingError as error:
            return str(error)

    def get(kind: str) -> Base:
        base = created(kind)
        if isinstance(base, str):
            pytest.skip(base)
        return base

    return get


@pytest.fixture(params=KINDS)
def kind(request: pytest.FixtureRequest) -> str:
    """The kind of root's interpreter."""
    return str(request.param)


@pytest.fixture
def attacked(get_base: GetBase, kind: str) -> Iterator[Installation]:
    """Return a fresh installation of root's, with the gateway stopped and a backup in it."""
    with get_base(kind).copied() as installation:
        yield installation


@pytest.fixture
def watch(attacked: Installation) -> Watch:
    """The state of files and accounts before the test, with which the state afterwards is compared."""
    return Watch(attacked)
