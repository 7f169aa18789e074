"""Marks that choose the engines on which a test runs, which are the parameters of the fixture ``tested_engine``.

A test without a mark runs on PostgreSQL. The marks work on tests that use ``database`` or ``make_site``, directly or
through other fixtures.
"""

from __future__ import annotations

import pytest

POSTGRES, PGLITE = "postgres", "pglite"
#: The test runs on the embedded PostgreSQL, and on PGlite with ``tox -e pglite``.
on_both_engines = pytest.mark.engines(POSTGRES, PGLITE)
#: The test runs on PGlite only.
on_pglite = pytest.mark.engines(PGLITE)
#: None is the parameter for PostgreSQL, so that tests with and without a mark share the fixtures of a module.
PARAMETERS = {
    POSTGRES: pytest.param(None, id=POSTGRES),
    PGLITE: pytest.param(PGLITE, id=PGLITE, marks=[pytest.mark.pglite, pytest.mark.slow]),
}


def not_on_pglite(reason: str) -> pytest.MarkDecorator:
    """Skip the case for PGlite of a test whose module is marked `on_both_engines`."""
    return pytest.mark.inapplicable(PGLITE, reason=reason)


def parametrize_engine(metafunc: pytest.Metafunc) -> None:
    """Add a parameter for each engine that the closest mark ``engines`` of a test lists."""
    mark = metafunc.definition.get_closest_marker("engines")
    if mark is not None and "tested_engine" in metafunc.fixturenames:
        metafunc.parametrize("tested_engine", [PARAMETERS[name] for name in mark.args], indirect=True, scope="module")


def skip_inapplicable(item: pytest.Item) -> None:
    """Skip a case whose engine has a mark ``inapplicable``."""
    callspec = getattr(item, "callspec", None)
    engine = callspec.params.get("tested_engine") if callspec is not None else None
    for mark in item.iter_markers("inapplicable"):
        if engine in mark.args:
            item.add_marker(pytest.mark.skip(reason=mark.kwargs["reason"]))
