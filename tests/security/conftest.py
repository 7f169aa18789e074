"""Root's installations under attack. Only root can run these tests: each works in namespaces of its own.

``ground``    The namespace in which machines are made (session).
``make_base`` Returns the installation that was made with a kind of interpreter, once for each (session).
``kind``      The kind of root's interpreter: the account can enter it, or not.
``attacked``  A fresh copy of such an installation, with the gateway stopped.
``watch``     What must not have changed in the end; taken before the test begins.

``pytest tests/security --whole`` runs every combination; without it a part that meets each of them somewhere.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import suppress
from functools import cache

import pytest
from tests.security.installation import Base, Installation, Watch, make_base
from tests.security.interpreters import KINDS, InterpreterMissingError, interpreter_of
from tests.security.machine import Ground, NamespacesMissingError
from tests.security.planted import prepare

MakeBase = Callable[[str], Base]
#: Tests of which each case runs with one kind of interpreter.
ALTERNATING: set[str] = set()


def pytest_addoption(parser: pytest.Parser) -> None:
    """Only where tests/security is named on the command line."""
    with suppress(ValueError):  # tests/sweep has it, too
        parser.addoption("--whole", action="store_true", help="all of it, not only a part")


def alternating(function: Callable[..., None]) -> Callable[..., None]:
    """Let each case of a test with many run with one kind of interpreter, in turn; with ``--whole`` with both."""
    ALTERNATING.add(function.__qualname__)
    return function


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave out every other case of the tests that are `alternating`."""
    if config.getoption("--whole", default=False):
        return
    seen: dict[tuple[str, str], int] = {}
    left_out = []
    for item in items:
        if not isinstance(item, pytest.Function) or item.function.__qualname__ not in ALTERNATING:
            continue
        name, kind = item.function.__qualname__, str(item.callspec.params["kind"])
        number = seen[name, kind] = seen.get((name, kind), -1) + 1
        if KINDS[number % len(KINDS)] != kind:
            left_out.append(item)
    config.hook.pytest_deselected(items=left_out)
    items[:] = [item for item in items if item not in left_out]


@pytest.fixture(scope="session")
def whole(request: pytest.FixtureRequest) -> bool:
    """Whether every combination is wanted."""
    return bool(request.config.getoption("--whole", default=False))


@pytest.fixture(scope="session")
def ground() -> Iterator[Ground]:
    """The namespace in which machines are made."""
    if os.geteuid() != 0:
        pytest.skip("only root can attack what root does")
    try:
        with Ground.prepared() as prepared:
            yield prepared
    except NamespacesMissingError as error:
        pytest.skip(f"this root may not mount, as in a container without the right to: {error}")


@pytest.fixture(scope="session")
def make_made(ground: Ground) -> MakeBase:
    """Return what gives the installation made with a kind of interpreter; skips where there is none of that kind."""

    @cache
    def created(kind: str) -> Base | str:
        try:
            return make_base(ground, interpreter_of(kind, ground), prepare)
        except InterpreterMissingError as error:
            return str(error)

    def give(kind: str) -> Base:
        found = created(kind)
        if isinstance(found, str):
            pytest.skip(found)
        return found

    return give


@pytest.fixture(params=KINDS)
def kind(request: pytest.FixtureRequest) -> str:
    """The kind of root's interpreter."""
    return str(request.param)


@pytest.fixture
def attacked(make_made: MakeBase, kind: str) -> Iterator[Installation]:
    """Return a fresh installation of root's, with the gateway stopped and a backup in it."""
    with make_made(kind).copied() as installation:
        yield installation


@pytest.fixture
def watch(attacked: Installation) -> Watch:
    """What must not have changed in the end."""
    return Watch(attacked)
