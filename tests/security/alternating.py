"""Tests of which each case runs with one kind of interpreter, in turn."""

from __future__ import annotations

from collections.abc import Callable

from tests.security.installation import Base

GetBase = Callable[[str], Base]
#: Qualified names of the tests that are `alternating`.
ALTERNATING: set[str] = set()


def alternating(function: Callable[..., None]) -> Callable[..., None]:
    """Run each case of a test with one kind of interpreter, in turn, or with both if ``--whole`` is given."""
    ALTERNATING.add(function.__qualname__)
    return function
